"""What a hop spends on repairs: the model behind the datapath's policy table."""
