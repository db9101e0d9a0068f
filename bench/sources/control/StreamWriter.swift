// Writes netlink messages and FPM frames byte for byte as FRR and the kernel do.

import Glibc
import Wire

/// Bytes that grow; lengths of messages and frames are filled in when they end.
struct StreamWriter {
    private(set) var bytes: [UInt8] = []
    private(set) var messages = 0
    private(set) var frames = 0
    private var frameStart = 0
    private var messageStart = 0
    /// zebra's socket, in routes and next hops (nlmsg_pid).
    static let port: UInt32 = 0x5A45_4252
    static let create: UInt16 = 0x401
    static let replace: UInt16 = 0x501

    mutating func reserve(_ count: Int) { bytes.reserveCapacity(count) }

    // MARK: Framing

    /// One FPM frame: version 1, type 1, the length with the header in network order.
    mutating func frame(_ body: (inout StreamWriter) -> Void) {
        frameStart = bytes.count
        bytes += [1, 1, 0, 0]
        body(&self)
        let length = bytes.count - frameStart
        bytes[frameStart + 2] = UInt8(length >> 8)
        bytes[frameStart + 3] = UInt8(length & 0xFF)
        frames += 1
    }
    mutating func message(_ type: UInt16, flags: UInt16, port: UInt32, _ body: (inout StreamWriter) -> Void) {
        messageStart = bytes.count
        put32(0)
        put16(type)
        put16(flags)
        put32(0)
        put32(port)
        body(&self)
        let length = UInt32(bytes.count - messageStart)
        for index in 0..<4 { bytes[messageStart + index] = UInt8(truncatingIfNeeded: length >> UInt32(8 * index)) }
        while bytes.count & 3 != 0 { bytes.append(0) }
        messages += 1
    }

    // MARK: Fields, in host order but for addresses

    mutating func put8(_ value: UInt8) { bytes.append(value) }
    mutating func put16(_ value: UInt16) {
        bytes.append(UInt8(truncatingIfNeeded: value))
        bytes.append(UInt8(truncatingIfNeeded: value >> 8))
    }
    mutating func put32(_ value: UInt32) {
        put16(UInt16(truncatingIfNeeded: value))
        put16(UInt16(truncatingIfNeeded: value >> 16))
    }
    private mutating func put(_ address: IPAddress) {
        switch address {
        case .v4(let v4): put32(v4.rawValue.bigEndian)
        case .v6(let v6):
            for word in [v6.high, v6.low] {
                put32(UInt32(truncatingIfNeeded: word >> 32).bigEndian)
                put32(UInt32(truncatingIfNeeded: word).bigEndian)
            }
        }
    }
    /// An attribute; zebra pads with whatever lies on its stack, here with zeros.
    mutating func attribute(_ type: UInt16, _ body: (inout StreamWriter) -> Void) {
        let start = bytes.count
        put16(0)
        put16(type)
        body(&self)
        let length = bytes.count - start
        bytes[start] = UInt8(truncatingIfNeeded: length)
        bytes[start + 1] = UInt8(truncatingIfNeeded: length >> 8)
        while bytes.count & 3 != 0 { bytes.append(0) }
    }
    mutating func attribute(_ type: UInt16, u32 value: UInt32) {
        put16(8)
        put16(type)
        put32(value)
    }
    mutating func attribute(_ type: UInt16, _ address: IPAddress) {
        put16(address.isV4 ? 8 : 20)
        put16(type)
        put(address)
    }
    mutating func attribute(_ type: UInt16, _ mac: MACAddress) {
        put16(10)
        put16(type)
        bytes += mac.bytes
        put16(0)
    }
    mutating func attribute(_ type: UInt16, text: String) { attribute(type) { $0.bytes += Array(text.utf8) + [0] } }

    mutating func append(text: String) { bytes += Array(text.utf8) }

    /// Writes the stream to a file.
    func write(to path: String) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        guard descriptor >= 0 else { fail("\(path): cannot be written: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var done = 0
        bytes.withUnsafeBytes { raw in
            while done < raw.count {
                let written = Glibc.write(descriptor, raw.baseAddress.map { $0 + done }, raw.count - done)
                guard written > 0 else { fail("\(path): cannot be written: \(String(cString: strerror(errno)))") }
                done += written
            }
        }
    }
}

/// A file's bytes, mapped: the stream is no part of the memory that is measured.
struct MappedStream {
    let bytes: UnsafeRawBufferPointer
    init(_ path: String) {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { fail("\(path): cannot be read: \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        let size = Int(lseek(descriptor, 0, SEEK_END))
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        let memory = mmap(nil, size, PROT_READ, MAP_SHARED | Int32(MAP_POPULATE), descriptor, 0)
        guard let memory, memory != MAP_FAILED else { fail("\(path): cannot be mapped") }
        bytes = UnsafeRawBufferPointer(start: memory, count: size)
    }
}
