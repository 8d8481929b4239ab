// What a byte-exact track holds; the same function stands in payloads.py.

export const OBJECTS_PER_GROUP = 5;
export const INTERVAL_MS = 50;
export const TRACK = "data";

const SIZES = [1, 63, 1199, 4096, 40_000];

export function payload(group, object) {
    return Uint8Array.from({ length: SIZES[object % SIZES.length] }, (_, i) => ((i % 251) * 31 + group * 7 + object * 13) % 251);
}

export async function digest(data) {
    const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    return Array.from(sha256, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
