// From bytes of a FPM connection to control events: few events with many messages each.

/// Deframes and decodes what came together, and hands it out as few events.
public enum FPMReader {
    /// Messages of one event: a batch's worth, so that the control thread's turns stay short.
    static let messageLimit = 1024

    /// Frames and faults are delivered in the order in which they came.
    public static func read(
        _ bytes: UnsafeRawBufferPointer, _ deframer: inout FPMDeframer, connection: Int,
        _ deliver: (ControlEvent) -> Void
    ) {
        var messages: [NetlinkMessage] = []
        var errors: [DecodeError] = []
        var frames = 0
        func flush() {
            if frames > 0 { deliver(.fpmFrames(connection: connection, messages, frames: frames)) }
            for error in errors { deliver(.fpmError(connection: connection, "\(error)")) }
            messages = []
            errors = []
            frames = 0
        }
        // A frame has at least 4 bytes, a message of routes or MACs about 60.
        messages.reserveCapacity(min(messageLimit, bytes.count / 48 + 1))
        deframer.feed(bytes) { event in
            switch event {
            case .frame(let payload):
                NetlinkDecoder.decode(payload, into: &messages, &errors)
                frames += 1
                if messages.count >= messageLimit || !errors.isEmpty { flush() }
            case .fault(let fault, let offset):
                flush()
                deliver(.fpmError(connection: connection, "byte \(offset): \(fault)"))
            }
        }
        flush()
    }
}
