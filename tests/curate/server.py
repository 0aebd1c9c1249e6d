"""A real model behind a real endpoint: `python -m tests.curate.server MODEL`.

Serves POST /v1/chat/completions with a transformers model, one request at a time, on a
free port of this machine; the port is the first line that it prints. For tests: it has
no key, no streaming and no batches.
"""

import http.server
import json
import sys

import transformers


def tiny_model(folder):
  """A random Llama of two layers with a byte-level vocabulary and a chat template."""
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers

  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  words = ["<pad>", "<s>", "</s>", *letters]
  backend = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
  )
  tokenizer.chat_template = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
  )
  tokenizer.save_pretrained(folder)
  transformers.set_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=len(words),
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=4096,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
  )
  model = transformers.LlamaForCausalLM(config)
  model.generation_config.do_sample = (
    True  # or `transformers serve` takes the likeliest
  )
  model.save_pretrained(folder)
  return folder


class Handler(http.server.BaseHTTPRequestHandler):
  """One chat completion for each POST."""

  model = tokenizer = name = None

  def do_POST(self):
    asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    if self.path != "/v1/chat/completions":
      return self._send(404, {"error": {"message": f"no {self.path}"}})
    if asked["model"] != self.name:
      return self._send(404, {"error": {"message": f"no model {asked['model']}"}})
    transformers.set_seed(asked.get("seed", 0))
    inputs = self.tokenizer.apply_chat_template(
      asked["messages"],
      add_generation_prompt=True,
      return_tensors="pt",
      return_dict=True,
    )
    ids = self.model.generate(
      **inputs,
      max_new_tokens=asked["max_tokens"],
      do_sample=asked["temperature"] > 0,
      temperature=asked["temperature"] or None,
    )[0, inputs["input_ids"].shape[1] :].tolist()
    ended = self.tokenizer.eos_token_id in ids
    text = self.tokenizer.decode(ids, skip_special_tokens=True)
    choice = dict(
      index=0,
      finish_reason="stop" if ended else "length",
      message=dict(role="assistant", content=text),
    )
    return self._send(
      200, dict(object="chat.completion", model=self.name, choices=[choice])
    )

  def _send(self, status, content):
    data = json.dumps(content).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    self.wfile.write(data)

  def log_message(self, *_):
    pass


def main(name):
  Handler.name = name
  Handler.tokenizer = transformers.AutoTokenizer.from_pretrained(name)
  Handler.model = transformers.AutoModelForCausalLM.from_pretrained(name).eval()
  with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
  main(sys.argv[1])
