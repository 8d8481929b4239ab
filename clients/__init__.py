"""Publisher and viewer: media sources, packaging, playback measurement, on trio."""
