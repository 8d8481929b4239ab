// A headless Chromium for browser.py: takes commands as JSON lines on stdin, answers on stdout.
//
//     {"id": 1, "do": "open", "page": "watch", "query": {…}}   -> {"event": "done", "id": 1, "result": NUMBER}
//     {"id": 2, "do": "evaluate", "number": 0, "expression": "…"} -> … "result": its value
//     {"id": 3, "do": "screenshot", "number": 0, "path": "…"}
//     {"id": 4, "do": "close", "number": 0}
//
// What fails is answered with {"event": "refused", "id": …, "reason": …}. Ends when stdin does, or on SIGTERM.
import { createServer } from "node:http";
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const folder = fileURLToPath(new URL("pages/", import.meta.url));
const LIBRARIES = ["parameters.js", "payloads.js"];
const FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
];

function say(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function bundlePages() {
    const entryPoints = readdirSync(folder)
        .filter((name) => name.endsWith(".js") && !LIBRARIES.includes(name))
        .map((name) => folder + name);
    const options = { bundle: true, format: "esm", target: "chrome130", write: false, outdir: "/", logLevel: "warning" };
    const { outputFiles } = await build({ ...options, entryPoints });
    return new Map(outputFiles.map((file) => [file.path, file.contents]));
}

// Pages must come from http://127.0.0.1, which browsers trust enough for WebTransport.
async function serve(bundles) {
    const server = createServer((request, response) => {
        const { pathname } = new URL(request.url, "http://127.0.0.1");
        const script = bundles.get(pathname);
        if (script) {
            response.writeHead(200, { "content-type": "text/javascript" }).end(script);
        } else if (bundles.has(`${pathname}.js`)) {
            const page = `<!doctype html><meta charset="utf-8"><title>${pathname}</title><body><script type="module" src="${pathname}.js"></script>`;
            response.writeHead(200, { "content-type": "text/html" }).end(page);
        } else {
            response.writeHead(404).end();
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${server.address().port}`;
}

async function open(browser, base, { page: name, query }) {
    const context = await browser.newContext({ viewport: { width: 800, height: 500 }, permissions: ["camera", "microphone"] });
    const page = await context.newPage();
    page.on("console", (message) => console.error(`${name}: ${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => console.error(`${name}: uncaught: ${error.stack ?? error}`));
    await page.goto(`${base}/${name}?${new URLSearchParams(query)}`);
    return page;
}

const base = await serve(await bundlePages());
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: FLAGS, timeout: 60_000, handleSIGTERM: false });
const pages = [];

const commands = {
    open: async (command) => pages.push(await open(browser, base, command)) - 1,
    evaluate: ({ number, expression }) => pages[number].evaluate(expression),
    screenshot: async ({ number, path }) => void (await pages[number].screenshot({ path })),
    close: ({ number }) => pages[number].context().close(),
};

async function obey(command) {
    try {
        say({ event: "done", id: command.id, result: (await commands[command.do](command)) ?? null });
    } catch (error) {
        say({ event: "refused", id: command.id, reason: String(error) });
    }
}

async function end() {
    await browser.close();
    process.exit(0);
}

process.on("SIGTERM", end);
say({ event: "ready", version: browser.version(), base });
for await (const line of createInterface({ input: process.stdin })) {
    obey(JSON.parse(line));
}
await end();
