import { parseArgs } from "node:util";
import { announceReady, endWithParent, failStart } from "./child-entry.ts";
import { startUpstashBridge } from "./upstash-bridge.ts";

/** `--redis URL --token TOKEN --port N` */
const { values } = parseArgs({
  options: {
    redis: { type: "string", default: "" },
    token: { type: "string", default: "" },
    port: { type: "string", default: "0" },
  },
});

let close = (): Promise<unknown> => Promise.resolve();
endWithParent(() => close());
try {
  const bridge = await startUpstashBridge({
    redisUrl: values.redis,
    token: values.token,
    port: Number(values.port),
  });
  close = bridge.close;
  announceReady(bridge.url);
} catch (error) {
  failStart(error);
}
