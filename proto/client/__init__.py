"""Publisher and viewer as engines without I/O; their events are in `farcast.proto.client.events`."""

from farcast.proto.client.config import ConnectionConfig, ViewerConfig
from farcast.proto.client.publisher import Publisher, PublisherConfig
from farcast.proto.client.viewer import Viewer

__all__ = ["ConnectionConfig", "Publisher", "PublisherConfig", "Viewer", "ViewerConfig"]
