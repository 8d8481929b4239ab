// @moq/net waits for the broadcast and reads the byte-exact track.
import * as Moq from "@moq/net";
import { broadcast, guard, server, state, webtransport } from "./parameters.js";
import { digest, TRACK } from "./payloads.js";

state.objects = [];

async function run() {
    const options = { webtransport: webtransport(), websocket: { enabled: false } };
    const connection = await Moq.Connection.connect(new URL(server), options);
    const path = Moq.Path.from(broadcast);
    await announcement(connection.announced(), path);
    const track = connection.consume(path).track(TRACK).subscribe({ latencyMax: 5_000 });
    for (let group = await track.recvGroup(); group; group = await track.recvGroup()) {
        guard(read(group));
    }
}

async function announcement(announced, path) {
    let entry;
    do {
        entry = await announced.next();
    } while (entry && !(entry.active && entry.path === path));
}

async function read(group) {
    let frame;
    while ((frame = await group.readFrameSequence())) {
        const place = [group.sequence, frame.sequence];
        state.objects.push([...place, await digest(frame.payload)]);
    }
}

guard(run());
