// Text forms of addresses, prefixes and identifiers: what is accepted, what is not, and what is written.

import Glibc
import Testing
import TestSupport

@testable import Wire

/// What the C library reads of a text.
private func system(_ text: String, family: Int32, count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    return inet_pton(family, text, &bytes) == 1 ? bytes : nil
}

@Suite("IPv4 address")
struct IPv4AddressTests {
    @Test("dotted decimal, four parts", arguments: [
        ("0.0.0.0", 0), ("10.0.0.1", 0x0A00_0001), ("255.255.255.255", 0xFFFF_FFFF), ("192.0.2.129", 0xC000_0281),
    ] as [(String, UInt32)])
    func good(text: String, value: UInt32) {
        #expect(IPv4Address(text)?.rawValue == value)
        #expect(IPv4Address(rawValue: value).description == text)
    }

    @Test("anything else is refused", arguments: [
        "", ".", "...", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "256.0.0.1", "1.2.3.256", "01.2.3.4",
        "1.2.3.04", "00.0.0.0", "1.2.3.4 ", " 1.2.3.4", "+1.2.3.4", "-1.2.3.4", "1.2.3.0x4", "1.2.3.4/24", "a.b.c.d",
        "1.2.3.1000", "١.٢.٣.٤", "1.2.3.4\n", "1,2,3,4", "1.2.3.４", "1.2.3.4\u{301}",
    ])
    func bad(text: String) { #expect(IPv4Address(text) == nil) }

    @Test("bytes and order")
    func bytes() {
        let address = IPv4Address(rawValue: 0x0102_0304)
        #expect(address.bytes == [1, 2, 3, 4])
        #expect(withUnsafeBytes(of: address.networkOrder) { Array($0) } == [1, 2, 3, 4])
        #expect(address < IPv4Address(rawValue: 0x8000_0000))
        #expect(IPv4Address("224.0.0.1")?.isMulticast == true && IPv4Address("239.255.255.255")?.isMulticast == true)
        #expect(IPv4Address("223.255.255.255")?.isMulticast == false && IPv4Address("240.0.0.0")?.isMulticast == false)
    }
}

@Suite("IPv6 address (RFC 4291 section 2.2, RFC 5952)")
struct IPv6AddressTests {
    @Test("every form is read and written canonically", arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"), ("1::4:5:6:7:8", "1::4:5:6:7:8"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("fe80::ABCD", "fe80::abcd"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"), ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
        ("::1.2.3.4", "::102:304"), ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("0:0:0:0:0:0:0:0", "::"), ("0:0:1::", "0:0:1::"),
    ] as [(String, String)])
    func good(text: String, canonical: String) throws {
        let address = try #require(IPv6Address(text))
        #expect(address.description == canonical)
        #expect(IPv6Address(canonical) == address)
        #expect(system(text, family: AF_INET6, count: 16) == address.bytes)
        #expect(IPv6Address(bytes: address.bytes) == address)
    }

    @Test("anything else is refused", arguments: [
        "", ":", ":::", "1", "1:", ":1", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "1::2::3", "::1::", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "::12345", "g::", "::g", "::1%eth0",
        "::1/64", " ::1", "::1 ", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "::1.2.3.256", "1.2.3.4::", "::1.2.3.4:5", "::-1",
        "::+1", "[::1]", "::0x1", "::1\n", "::１", "1:::2", "::ffff:1.2.3.04",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", "::\u{301}1",
    ])
    func bad(text: String) {
        #expect(IPv6Address(text) == nil)
        #expect(IPAddress(text) == nil)
    }

    @Test("random texts are read as the C library reads them", arguments: 0..<8 as Range<UInt64>)
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let pieces = ["0", "1", "a", "F", "00", "db8", "ffff", "12345", ":", ":", ":", "::", ".", "1.2.3.4", "255"]
        for _ in 0..<3000 {
            let text = (0..<Int.random(in: 1...17, using: &random)).map { _ in pieces.randomElement(using: &random)! }
                .joined()
            #expect(IPv6Address(text)?.bytes == system(text, family: AF_INET6, count: 16), "\(text)")
            #expect(IPv4Address(text)?.bytes == system(text, family: AF_INET, count: 4), "\(text)")
        }
    }

    @Test("random addresses are written so that they read back", arguments: 0..<4 as Range<UInt64>)
    func roundTrip(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<2000 {
            // Many zero groups, since those make the forms differ.
            let bytes = (0..<8).flatMap { _ in
                Bool.random(using: &random) ? [0, 0] : [UInt8.random(in: 0...255, using: &random), 7]
            }
            let address = IPv6Address(bytes: bytes)
            #expect(IPv6Address(address.description) == address)
            #expect(system(address.description, family: AF_INET6, count: 16) == bytes)
        }
    }

    @Test("kinds of address")
    func kinds() {
        #expect(IPv6Address("fe80::1")?.isLinkLocal == true && IPv6Address("febf::")?.isLinkLocal == true)
        #expect(IPv6Address("fec0::")?.isLinkLocal == false && IPv6Address("fe7f::")?.isLinkLocal == false)
        #expect(IPv6Address("ff02::1")?.isMulticast == true && IPv6Address("fe00::")?.isMulticast == false)
        #expect(IPv6Address("::ffff:10.0.0.1")?.v4Mapped == IPv4Address("10.0.0.1"))
        #expect(IPv6Address("::10.0.0.1")?.v4Mapped == nil && IPv6Address("1::ffff:10.0.0.1")?.v4Mapped == nil)
    }
}

@Suite("Address of either family")
struct IPAddressTests {
    @Test("text and bytes choose the family")
    func family() throws {
        let v4 = try #require(IPAddress("10.0.0.1")), v6 = try #require(IPAddress("fd00::1"))
        #expect(v4.isV4 && v4.bitCount == 32 && v4.bytes.count == 4 && v4.description == "10.0.0.1")
        #expect(!v6.isV4 && v6.bitCount == 128 && v6.bytes.count == 16 && v6.description == "fd00::1")
        #expect(IPAddress(bytes: v4.bytes) == v4 && IPAddress(bytes: v6.bytes) == v6)
        for count in 0..<20 where count != 4 && count != 16 {
            #expect(IPAddress(bytes: [UInt8](repeating: 1, count: count)) == nil)
        }
        #expect(v4 < v6 && !(v6 < v4))
    }

    @Test("the mapped form stands for the IPv4 address; others stay")
    func normalized() {
        #expect(IPAddress("::ffff:10.0.0.1")?.normalized == IPAddress("10.0.0.1"))
        #expect(IPAddress("10.0.0.1")?.normalized == IPAddress("10.0.0.1"))
        #expect(IPAddress("::1")?.normalized == IPAddress("::1"))
    }

    @Test("unspecified and multicast in both families")
    func kinds() {
        #expect(IPAddress("0.0.0.0")?.isUnspecified == true && IPAddress("::")?.isUnspecified == true)
        #expect(IPAddress("0.0.0.1")?.isUnspecified == false && IPAddress("1::")?.isUnspecified == false)
        #expect(IPAddress("224.0.0.5")?.isMulticast == true && IPAddress("ff02::5")?.isMulticast == true)
    }
}

@Suite("Prefix")
struct IPPrefixTests {
    @Test("an address and a length; an address alone is a host", arguments: [
        ("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3/8", "10.1.2.3/8"), ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.1", "10.0.0.1/32"), ("10.0.0.1/32", "10.0.0.1/32"), ("::/0", "::/0"), ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"), ("fd00::1/127", "fd00::1/127"),
    ] as [(String, String)])
    func good(text: String, canonical: String) { #expect(IPPrefix(text)?.description == canonical) }

    @Test("anything else is refused", arguments: [
        "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/ 8",
        "10.0.0.0/8 ", "10.0.0/8", "::/129", "::/1000", "::/", "10.0.0.0/255.0.0.0", "10.0.0.0/a", "10.0.0.0/08",
        "10.0.0.0/00", "::/064", "10.0.0.0/８", "10.0.0.0/99999999999999999999",
    ])
    func bad(text: String) { #expect(IPPrefix(text) == nil) }

    @Test("lengths outside the family are refused")
    func lengths() throws {
        let v4 = try #require(IPAddress("10.0.0.1")), v6 = try #require(IPAddress("::1"))
        #expect(IPPrefix(v4, length: 33) == nil && IPPrefix(v4, length: -1) == nil)
        #expect(IPPrefix(v6, length: 129) == nil && IPPrefix(v6, length: 128)?.isHost == true)
        #expect(IPPrefix(v4, length: 31)?.isHost == false)
    }

    @Test("the network keeps exactly the first bits, at every length", arguments: ["255.255.255.255", "a5a5:a5a5:a5a5:a5a5:a5a5:a5a5:a5a5:a5a5"])
    func network(text: String) throws {
        let address = try #require(IPAddress(text))
        for length in 0...address.bitCount {
            let network = try #require(IPPrefix(address, length: length)).network
            for bit in 0..<address.bitCount {
                let shift = UInt8(7 - bit % 8)
                let kept = network.address.bytes[bit / 8] >> shift & 1
                #expect(kept == (bit < length ? address.bytes[bit / 8] >> shift & 1 : 0))
            }
            #expect(network.network == network && network.contains(address))
        }
    }

    @Test("contains addresses of its family and range")
    func contains() throws {
        let prefix = try #require(IPPrefix("10.1.0.0/16"))
        #expect(IPAddress("10.1.255.255").map(prefix.contains) == true)
        #expect(IPAddress("10.2.0.0").map(prefix.contains) == false)
        #expect(IPAddress("::ffff:10.1.0.1").map(prefix.contains) == false, "another family")
        let all = try #require(IPPrefix("::/0"))
        #expect(IPAddress("ffff::").map(all.contains) == true && IPAddress("10.0.0.1").map(all.contains) == false)
        let short = try #require(IPPrefix("10.0.0.0/8")), other = try #require(IPPrefix("10.0.0.0/16"))
        #expect(short < other && !(other < short))
    }
}

@Suite("MAC address")
struct MACAddressTests {
    @Test("six parts, colons or dashes", arguments: [
        ("02:00:00:00:00:01", "02:00:00:00:00:01"), ("02-AB-cd-00-00-FF", "02:ab:cd:00:00:ff"),
        ("2:0:0:0:0:1", "02:00:00:00:00:01"), ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff"),
    ] as [(String, String)])
    func good(text: String, canonical: String) {
        #expect(MACAddress(text)?.description == canonical)
        #expect(MACAddress(canonical) == MACAddress(text))
    }

    @Test("anything else is refused", arguments: [
        "", ":", ":::::", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:", ":00:00:00:00:01", "0200.0000.0001",
        "020000000001", "02:00:00:00:00:1g", "02:00:00:00:00:001", "02:00:00:00:00:-1", " 02:00:00:00:00:01",
        "02:00:00:00:00:01 ", "02:00-00:00-00:01", "02:00:00:00:00:０1", "02:00:00:00:00:+1",
    ])
    func bad(text: String) { #expect(MACAddress(text) == nil) }

    @Test("lies in memory as in a frame")
    func memory() {
        let mac = MACAddress(1, 2, 3, 4, 5, 6)
        #expect(mac.bytes == [1, 2, 3, 4, 5, 6] && MACAddress(bytes: mac.bytes) == mac)
        #expect(withUnsafeBytes(of: mac.rawValue) { Array($0) } == [1, 2, 3, 4, 5, 6, 0, 0])
        #expect(MACAddress(rawValue: UInt64.max) == .broadcast, "the upper sixteen bits do not count")
    }

    @Test("group bit, broadcast, zero and order")
    func kinds() {
        #expect(MACAddress(1, 0, 0, 0, 0, 0).isMulticast && !MACAddress(2, 1, 1, 1, 1, 1).isMulticast)
        #expect(MACAddress.broadcast.isBroadcast && MACAddress.broadcast.isMulticast && MACAddress.zero.isZero)
        #expect(MACAddress(1, 0, 0, 0, 0, 2) < MACAddress(2, 0, 0, 0, 0, 1))
        #expect(MACAddress(2, 0, 0, 0, 0, 1) < MACAddress(2, 0, 0, 0, 0, 2))
    }
}

@Suite("VNI")
struct VNITests {
    @Test("24 bits")
    func bounds() {
        #expect(VNI(0)?.rawValue == 0 && VNI(0xFF_FFFF)?.rawValue == 0xFF_FFFF)
        #expect(VNI(0x100_0000) == nil && VNI(UInt32.max) == nil)
    }

    @Test("the upper 24 bits of the header's second word")
    func word() {
        #expect(VNI(word: 0x0000_6EFF).rawValue == 0x6E)
        #expect(VNI(word: UInt32.max).rawValue == 0xFF_FFFF)
        #expect(VNI(word: 110 << 8).description == "110")
    }
}
