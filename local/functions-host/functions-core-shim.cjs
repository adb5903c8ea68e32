module.exports = globalThis[Symbol.for("worker-service.azure-functions-core")];
