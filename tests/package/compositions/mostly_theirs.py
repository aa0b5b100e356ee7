from compositions import beside

app = beside.make("mostly_theirs")
