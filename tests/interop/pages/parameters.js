// What the harness tells a page in its address, and what a page tells the harness.

const query = new URL(location.href).searchParams;

export const server = query.get("server");
export const broadcast = query.get("broadcast");
const certificate = query.get("certificate");
const protocols = query.get("pinned") === "1" ? ["moqt-16"] : undefined;

// The harness reads this object.
export const state = (window.interop = { error: null });

export function guard(promise) {
    promise.catch((error) => (state.error = String(error?.stack ?? error)));
}

// For `connection.webtransport`: by default a library offers every protocol that it speaks.
export function webtransport() {
    const serverCertificateHashes = [{ value: certificate }];
    return protocols ? { protocols, serverCertificateHashes } : { serverCertificateHashes };
}
