// What an OpenAI client must be able to do, with the official JavaScript one: node check.mjs BASE_URL KEY MODEL.
// Prints the same JSON object as check.py.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const prompt = "The capital of France is";
const fixed = { model, temperature: 0 };

async function nameError(someone, wanted) {
  try {
    await someone.chat.completions.create({ model: wanted, messages });
  } catch (error) {
    return `${error.constructor.name} ${error.status}`;
  }
  return "no error";
}

const chat = await client.chat.completions.create({ ...fixed, messages, max_completion_tokens: 16 });
let chatStreamed = "";
for await (const chunk of await client.chat.completions.create({ ...fixed, messages, max_completion_tokens: 16, stream: true }))
  chatStreamed += chunk.choices[0]?.delta?.content ?? "";
const completion = await client.completions.create({ ...fixed, prompt, max_tokens: 8 });
let completionStreamed = "";
for await (const part of await client.completions.create({ ...fixed, prompt, max_tokens: 8, stream: true }))
  completionStreamed += part.choices[0]?.text ?? "";
const models = [];
for await (const each of client.models.list()) models.push(each.id);

console.log(
  JSON.stringify({
    chat: chat.choices[0].message.content,
    "chat streamed": chatStreamed,
    completion: completion.choices[0].text,
    "completion streamed": completionStreamed,
    models,
    "wrong key": await nameError(new OpenAI({ baseURL, apiKey: "wrong-key-of-nobody", maxRetries: 0 }), model),
    "wrong model": await nameError(client, "no-such-model"),
  }),
);
