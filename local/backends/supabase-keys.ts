/** The same on every machine, and of no use anywhere else: the API listens on 127.0.0.1 only. */
export const SUPABASE_KEYS = {
  /** Calls as `anon`. */
  publishable: "sb_publishable_local_0123456789abcdef",
  /** Calls as `service_role`. */
  secret: "sb_secret_local_0123456789abcdef",
} as const;
