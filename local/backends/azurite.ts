import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { refuseTakenPort } from "./ports.ts";

const HOST = "127.0.0.1";
const KEEP_ALIVE_SECONDS = 65;
const EXTENT_OPERATIONS_MAX = 10;
/** Azurite's published development account, the same in every installation. */
const ACCOUNT = "devstoreaccount1";
const KEY =
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

export interface AzuriteOptions {
  /** 0 or nothing: any free port. */
  readonly blobPort?: number;
  readonly queuePort?: number;
  /** Folder that keeps the data; without it everything stays in memory. */
  readonly location?: string;
}

export interface RunningAzurite {
  readonly connectionString: string;
  close(): Promise<void>;
}

/**
 * Azure Storage, blob and queue service, in this process. Its command line would always start the table service as
 * well, so this uses the classes inside the package: its version is pinned exactly. Single-threaded and slow when many
 * messages lie in any queue.
 */
export async function startAzurite(options: AzuriteOptions = {}): Promise<RunningAzurite> {
  const { blobPort = 0, queuePort = 0 } = options;
  await refuseTakenPort(blobPort, "the blob storage", "--blob-port");
  await refuseTakenPort(queuePort, "the queue storage", "--queue-port");
  loadModule<{ configLogger(isEnabled: boolean): void }>("common/Logger").configLogger(false);
  const blob = createServer("blob", "BlobServer", "BlobConfiguration", blobPort, options.location);
  const queue = createServer(
    "queue",
    "QueueServer",
    "QueueConfiguration",
    queuePort,
    options.location,
  );
  await Promise.all([blob.start(), queue.start()]);
  return {
    connectionString: [
      "DefaultEndpointsProtocol=http",
      `AccountName=${ACCOUNT}`,
      `AccountKey=${KEY}`,
      `BlobEndpoint=${blob.getHttpServerAddress()}/${ACCOUNT}`,
      `QueueEndpoint=${queue.getHttpServerAddress()}/${ACCOUNT}`,
    ].join(";"),
    close: async () => {
      await Promise.all([blob.close(), queue.close()]);
    },
  };
}

interface AzuriteServer {
  start(): Promise<void>;
  close(): Promise<void>;
  getHttpServerAddress(): string;
}

type Constructor<T> = new (...args: unknown[]) => T;

function loadModule<T>(name: string): T {
  return createRequire(import.meta.url)(`azurite/dist/src/${name}`) as T;
}

function createServer(
  kind: "blob" | "queue",
  serverName: string,
  configurationName: string,
  port: number,
  location: string | undefined,
): AzuriteServer {
  const Server = loadModule<{ default: Constructor<AzuriteServer> }>(
    `${kind}/${serverName}`,
  ).default;
  const Configuration = loadModule<{ default: Constructor<object> }>(
    `${kind}/${configurationName}`,
  ).default;
  const file = (name: string) => join(location ?? tmpdir(), name); // not touched in memory
  return new Server(
    new Configuration(
      HOST,
      port,
      KEEP_ALIVE_SECONDS,
      file(`__azurite_db_${kind}__.json`),
      file(`__azurite_db_${kind}_extent__.json`),
      [
        {
          locationId: "Default",
          locationPath: file(`__${kind}storage__`),
          maxConcurrency: EXTENT_OPERATIONS_MAX,
        },
      ],
      false, // access log
      undefined,
      false, // debug log
      undefined,
      false, // loose mode
      true, // skip the check of the API version: a newer SDK would be refused
      "",
      "",
      "",
      undefined,
      false,
      location === undefined,
    ),
  );
}
