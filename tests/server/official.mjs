// A function written with AWS's own SDK for JavaScript, as its users write it: the same as official.py.
import { withDurableExecution } from "@aws/durable-execution-sdk-js";

export const handler = withDurableExecution(async (event, context) => {
  const first = await context.step("first", async () => 20);
  await context.wait("pause", { seconds: event.seconds ?? 1 });
  const second = await context.runInChildContext("child", async (child) =>
    child.step("inside", async () => first + event.n),
  );
  const batch = await context.map("map", [1, 2], async (child, item) =>
    child.step(`item-${item}`, async () => item * 2),
  );
  return [second, batch.getResults()];
});
