// Ask an endpoint a question with the official client and stream the answer.
//
//   export OPENAI_BASE_URL=http://localhost:8000/v2/smollm2/openai/v1 OPENAI_API_KEY=fb_...
//   node ask.mjs smollm2 "What is a dam?"
//
// The two variables are the client's own: https://github.com/openai/openai-node.
import OpenAI from "openai";

const [model, question] = process.argv.slice(2);
const client = new OpenAI();
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: question }],
  temperature: 0,
  max_completion_tokens: 128,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
process.stdout.write("\n");
