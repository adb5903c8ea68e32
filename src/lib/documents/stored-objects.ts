import { permanent } from "../kernel/errors.ts";
import { faultOfObject } from "./object-path.ts";
import type { ObjectRef, StoredObject, StoredObjects } from "./stored-object.ts";

export interface ObjectStore {
  open(
    ref: { readonly container: string; readonly path: string },
    signal: AbortSignal,
  ): Promise<StoredObject | undefined>;
}

/** The store of each row. The rules of paths are checked again here, whoever wrote the row. */
export const storedObjects = (
  stores: Readonly<Record<ObjectRef["storage"], ObjectStore>>,
  containers: readonly string[],
): StoredObjects => ({
  open: async (ref, signal) => {
    const [workspaceId = ""] = ref.path.split("/");
    const fault = faultOfObject(ref, workspaceId, containers);
    if (fault !== undefined) throw permanent("document_object_refused", { faults: [fault] });
    return stores[ref.storage].open(ref, signal);
  },
});
