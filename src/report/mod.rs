//! Floor 5, what a person or a program reads. All are sinks of events.
