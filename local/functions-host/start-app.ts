import { StartError } from "../backends/start-error.ts";
import { type Core, installCoreModule } from "./core-module.ts";
import type { Capabilities, ProgrammingModel } from "./core-types.ts";
import type { HostJson } from "./host-json.ts";
import type { HostLog } from "./host-log.ts";
import { type HostedFunction, hostFunctions } from "./hosted-function.ts";
import { type AppLocation, loadApp } from "./load-app.ts";
import { watchServers } from "./stream-proxy.ts";

/** The app, loaded and started. */
export interface App {
  readonly core: Core;
  readonly functions: readonly HostedFunction[];
  readonly capabilities: Capabilities;
  /** Runs the appTerminate hooks. */
  terminate(): Promise<void>;
  /** Closes what the library opened. */
  closeLibrary(): void;
}

/**
 * Loads the app, runs its appStart hooks, and then reads what it registered: a hook may still register functions.
 *
 * @throws StartError when there is nothing to run, or something this host cannot run. What a hook throws.
 */
export async function startApp(
  location: AppLocation,
  { allowedFunctions }: HostJson,
  log: HostLog,
): Promise<App> {
  const core = installCoreModule(log);
  await loadApp(location);
  const model = registeredModel(core);
  const { appHookData } = core;
  const context = { hookData: {}, appHookData, functionAppDirectory: location.dir };
  await core.hooks.run("appStart", context);
  const { result, close } = await watchServers(() => model.getCapabilities(offeredCapabilities()));
  core.lock();
  try {
    return {
      core,
      functions: readFunctions(core, allowedFunctions),
      capabilities: result,
      terminate: () => core.hooks.run("appTerminate", context),
      closeLibrary: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

const offeredCapabilities = (): Capabilities => ({
  RawHttpBodyBytes: "true",
  RpcHttpBodyOnly: "true",
});

function registeredModel(core: Core): ProgrammingModel {
  const model = core.model();
  if (model !== undefined && core.registrations().length > 0) return model;
  throw new StartError("The app registered no function. Azure would stay up and say nothing.");
}

function readFunctions(core: Core, allowed: ReadonlySet<string> | undefined): HostedFunction[] {
  const functions = hostFunctions(core.registrations(), allowed, process.env);
  if (functions.length > 0) return functions;
  throw new StartError("The list `functions` of host.json names no function of the app.");
}
