// @moq/net publishes the byte-exact track.
import * as Moq from "@moq/net";
import { broadcast, guard, server, webtransport } from "./parameters.js";
import { INTERVAL_MS, OBJECTS_PER_GROUP, payload, TRACK } from "./payloads.js";

async function run() {
    const options = { webtransport: webtransport(), websocket: { enabled: false } };
    const connection = await Moq.Connection.connect(new URL(server), options);
    const producer = new Moq.Broadcast.Producer();
    const track = producer.createTrack(TRACK);
    connection.publish(Moq.Path.from(broadcast), producer);
    for (;;) {
        const group = track.appendGroup();
        for (let object = 0; object < OBJECTS_PER_GROUP; object++) {
            group.writeFrame({ payload: payload(group.sequence, object), timestamp: Moq.Time.Timestamp.now() });
            await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
        }
        group.close();
    }
}

guard(run());
