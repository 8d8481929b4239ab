// <moq-watch> plays a broadcast; the harness reads the pictures off its canvas.
import "@moq/watch/element";
import { broadcast, guard, server, state, webtransport } from "./parameters.js";

const player = document.createElement("moq-watch");
const canvas = document.createElement("canvas");
player.append(canvas);
player.visible = "always";
player.connection.webtransport = webtransport();
player.connection.websocket = { enabled: false };
player.name = broadcast;
player.url = server;
document.body.append(player);

state.picture = () => (player.renderer.out.frame.peek() ? canvas.toDataURL("image/png") : null);
guard(player.connection.closed);
