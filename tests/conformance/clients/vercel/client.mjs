// The Vercel AI SDK through the gateway. Reads what to ask of whom from standard input, writes what came of it, as JSON.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
let input = "";
for await (const piece of process.stdin) input += piece;
const { url, key, prompt, upstreams } = JSON.parse(input);

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const google = createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: key });
const models = {
  "openai, chat": (name) => openai.chat(name),
  "openai, responses": (name) => openai.responses(name),
  anthropic: (name) => anthropic(name),
  google: (name) => google(name),
};
const weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `it rains in ${city}`,
});
const answer = z.object({ name: z.string(), done: z.boolean() });
const question = "What is the weather in Paris?";
// The loop of the SDK itself calls the tool and sends its result back. Without `store: false` it would send references to
// what OpenAI has stored, which no other provider has.
const agent = {
  prompt: question, tools: { weather }, stopWhen: stepCountIs(3), maxRetries: 0,
  providerOptions: { openai: { store: false } },
};
const called = (steps) => steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));

const scenarios = {
  text: async (model) => {
    const { text, usage } = await generateText({ model: model("mock-small"), prompt, maxRetries: 0 });
    return { text, usage: [usage.inputTokens, usage.outputTokens] };
  },
  stream: async (model) => {
    let failure = null;
    const told = streamText({
      model: model("mock-small"), prompt, maxRetries: 0, onError: ({ error }) => { failure = error; },
    });
    const pieces = [];
    for await (const piece of told.textStream) pieces.push(piece);
    if (failure) throw failure;
    return { text: pieces.join(""), pieces: pieces.length };
  },
  "tool call": async (model) => {
    const { text, steps } = await generateText({ model: model("stage-signed"), ...agent });
    return { text, calls: called(steps) };
  },
  "streamed tool call": async (model) => {
    let failure = null;
    const told = streamText({ model: model("stage-signed"), ...agent, onError: ({ error }) => { failure = error; } });
    await told.consumeStream();
    if (failure) throw failure;
    return { text: await told.text, calls: called(await told.steps) };
  },
  "structured output": async (model) => {
    const { output } = await generateText({
      model: model("mock-small"), prompt, output: Output.object({ schema: answer }), maxRetries: 0,
    });
    return { value: output };
  },
  error: async (model) => {
    try {
      await generateText({ model: model("mock-error-429"), prompt, maxRetries: 0 });
    } catch (error) {
      return { status: error.statusCode, kind: APICallError.isInstance(error) ? "APICallError" : error.name };
    }
    return { status: 200 };
  },
};

const told = {};
for (const [name, make] of Object.entries(models)) {
  for (const upstream of upstreams) {
    for (const [scenario, run] of Object.entries(scenarios)) {
      try {
        told[`${name}|${scenario}|${upstream}`] = await run((model) => make(`${upstream}.${model}`));
      } catch (error) {
        told[`${name}|${scenario}|${upstream}`] = { raised: `${error.name}: ${error.message} ${error.cause ?? ""}` };
      }
    }
  }
}
process.stdout.write(JSON.stringify(told));
