// <moq-publish> sends the browser's camera and microphone.
import "@moq/publish/element";
import { broadcast, guard, server, webtransport } from "./parameters.js";

const publisher = document.createElement("moq-publish");
const preview = document.createElement("video");
preview.muted = true;
preview.autoplay = true;
publisher.append(preview);
publisher.connection.webtransport = webtransport();
publisher.connection.websocket = { enabled: false };
publisher.name = broadcast;
publisher.url = server;
publisher.source = "camera";
document.body.append(publisher);

guard(publisher.connection.closed);
