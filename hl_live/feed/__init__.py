"""The live feed: every reading to everyone who asked for it, or an explicit gap.

    reader thread                     event loop
    records -> decode_records -> spans -> Fanout.publish ─┬─> Ring of each partition (what comes back resumes from)
                                                          ├─> LatestReadings     (what a new client begins with)
                                                          └─> Subscription queues -> Session.take -> transport

| module | what it holds |
|---|---|
| messages | what client and service say to each other |
| frames | one reading on its way, encoded once for each selection of fields |
| ring | the newest frames of one Kafka partition |
| subscription | what one client wants of one stream, and its bounded queue |
| fanout | who gets which frames |
| resume | from a client's positions to the live feed, by the ring and by Kafka |
| past | ranges of Kafka, each read once for everyone |
| session | one client's side of the protocol |

Nothing here knows of sockets: transports are `hl_live.routes.feed` (WebSocket) and `hl_live.routes.feed_events` (SSE).
"""
