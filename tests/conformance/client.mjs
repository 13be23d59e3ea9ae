// What programs do with the official JavaScript client: node client.mjs BASE_URL MODEL, of a server that asks for no key.
// Prints a JSON object: what was tried -> what was wrong, or "".
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", description: "The weather of a city", parameters } }];
const short = { model, max_completion_tokens: 16 };

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

function expectCall(call) {
  expect(call.function.name === "weather", `called ${call.function.name}`);
  expect(typeof JSON.parse(call.function.arguments).city === "string", `arguments ${call.function.arguments}`);
}

async function expectError(kind, status, body) {
  try {
    await client.chat.completions.create(body);
  } catch (error) {
    expect(error instanceof kind && error.status === status, `${error.constructor.name} ${error.status}`);
    expect(error.requestID, "no request id");
    return;
  }
  throw new Error("no error");
}

const checks = {
  models: async () => {
    const names = [];
    for await (const each of client.models.list()) names.push(each.id);
    expect(names.includes(model), `lists ${names}`);
    expect((await client.models.retrieve(model)).id === model, "retrieves another");
  },
  chat: async () => {
    const answer = await client.chat.completions.create({ ...short, messages });
    expect(answer.choices[0].message.content && answer.usage.completion_tokens > 0, JSON.stringify(answer));
  },
  "chat streamed": async () => {
    let text = "";
    let usage;
    const stream = await client.chat.completions.create({
      ...short, messages, stream: true, stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    expect(text && usage.completion_tokens > 0, `${text} ${JSON.stringify(usage)}`);
  },
  "chat stopped by the client": async () => {
    const stream = await client.chat.completions.create({ model, messages, max_completion_tokens: 500, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break;
    }
    expect(stream.controller.signal.aborted, "not aborted");
  },
  completion: async () => {
    const answer = await client.completions.create({ model, prompt: "The capital of France is", max_tokens: 8 });
    expect(answer.choices[0].text, JSON.stringify(answer));
  },
  response: async () => {
    const answer = await client.responses.create({ model, input: "Say hello.", max_output_tokens: 200 });
    expect(answer.output_text, JSON.stringify(answer));
  },
  "response streamed": async () => {
    const kinds = [];
    for await (const event of await client.responses.create({ model, input: "Say hello.", max_output_tokens: 200, stream: true }))
      kinds.push(event.type);
    expect(kinds[0] === "response.created" && kinds.includes("response.output_text.delta"), `${kinds.slice(0, 9)}`);
  },
  "tool forced": async () => {
    const answer = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
    expectCall(answer.choices[0].message.tool_calls[0]);
  },
  "tool named, streamed": async () => {
    const named = { type: "function", function: { name: "weather" } };
    const runner = client.chat.completions.stream({ model, messages, tools, tool_choice: named });
    expectCall((await runner.finalChatCompletion()).choices[0].message.tool_calls[0]);
  },
  "structured output": async () => {
    const response_format = { type: "json_schema", json_schema: { name: "city", schema: parameters, strict: true } };
    const answer = await client.chat.completions.parse({ model, messages, response_format });
    expect(typeof JSON.parse(answer.choices[0].message.content).city === "string", answer.choices[0].message.content);
  },
  "wrong model": () => expectError(OpenAI.NotFoundError, 404, { model: "no-such-model", messages }),
  "wrong request": () => expectError(OpenAI.BadRequestError, 400, { model, messages, temperature: "hot" }),
};

const found = {};
for (const [name, check] of Object.entries(checks)) {
  found[name] = await check().then(() => "", (error) => String(error));
}
console.log(JSON.stringify(found));
