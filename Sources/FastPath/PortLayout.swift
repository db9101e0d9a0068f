// Where the fields of a worker's ports lie in memory: for programs in C that use the same ports.

/// Offsets by the name `Type.field`; a type's name alone has its stride. See `TableLayout`.
public enum PortLayout {
    public static var fields: [String: Int] {
        Dictionary(queues + ports) { first, _ in first }
    }

    private static func field<Type>(_ name: String, _ path: PartialKeyPath<Type>) -> (String, Int) {
        ("\(Type.self).\(name)", MemoryLayout<Type>.offset(of: path) ?? -1)
    }
    private static var queues: [(String, Int)] {
        [
            ("PolledQueue", MemoryLayout<PolledQueue>.stride), field("ethdev", \PolledQueue.ethdev),
            field("queue", \PolledQueue.queue), field("port", \PolledQueue.port),
            field("features", \PolledQueue.features), field("generation", \PollSlot.generation),
            field("count0", \PollSlot.count0), field("count1", \PollSlot.count1),
            field("banks", \PollSlot.banks), field("seen", \PollSlot.seen),
        ]
    }
    private static var ports: [(String, Int)] {
        [
            field("worker", \WorkerIO.worker), field("rxRing", \WorkerIO.rxRing),
            field("exceptionRing", \WorkerIO.exceptionRing), field("portCapacity", \WorkerIO.portCapacity),
            field("ports", \WorkerIO.ports), field("polled", \WorkerIO.polled),
        ]
    }
}
