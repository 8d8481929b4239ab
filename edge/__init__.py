"""The edge daemon: a trio shell around the agent and the datapath, and its ops listener."""
