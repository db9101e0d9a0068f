// From the configuration's YAML to its values, with all faults at once.

import Tables
import Wire
import Yams

/// Every fault of a configuration, in the order of the file.
public struct ConfigurationFaults: Error, Hashable, Sendable, CustomStringConvertible {
    public var faults: [ConfigurationError]
    public init(faults: [ConfigurationError]) { self.faults = faults }
    public var description: String { faults.map { "\($0.description)" }.joined(separator: "\n") }
}

/// What reading a configuration gave.
public struct ConfigurationReading: Hashable, Sendable {
    /// Meaningful only without faults.
    public var configuration: Configuration
    public var faults: [ConfigurationError]
    /// Allowed, but probably not meant.
    public var notes: [ConfigurationError]
}

extension Configuration {
    /// Reads and validates a file.
    public static func load(file: String) throws(ConfigurationFaults) -> Configuration {
        try read(file: file).validated()
    }

    /// Validates a text; `file` is what errors call it.
    public init(yaml: String, file: String = "configuration") throws(ConfigurationFaults) {
        self = try Configuration.read(yaml: yaml, file: file).validated()
    }

    /// Reads a file and reports everything about it.
    public static func read(file: String) -> ConfigurationReading {
        switch ConfigurationSource.read(file) {
        case .success(let text): return read(yaml: text, file: file)
        case .failure(let fault):
            return ConfigurationReading(configuration: Configuration(), faults: [fault], notes: [])
        }
    }

    /// Reads a text and reports everything about it.
    public static func read(yaml: String, file: String = "configuration") -> ConfigurationReading {
        let source = ConfigurationSource(text: yaml, file: file)
        var parser = ConfigurationParser(file: file)
        if let root = source.root { parser.parse(root) }
        let faults = source.faults + parser.reader.faults
        return ConfigurationReading(
            configuration: parser.configuration,
            faults: faults.sorted(by: Self.isBefore),
            notes: parser.reader.notes.sorted(by: Self.isBefore)
        )
    }

    private static func isBefore(_ a: ConfigurationError, _ b: ConfigurationError) -> Bool {
        (a.location.line, a.location.column, a.path, a.message)
            < (b.location.line, b.location.column, b.path, b.message)
    }
}

extension ConfigurationReading {
    fileprivate func validated() throws(ConfigurationFaults) -> Configuration {
        guard faults.isEmpty else { throw ConfigurationFaults(faults: faults) }
        return configuration
    }
}

/// Where a thing was first said, so that a second one can name it.
struct Mention {
    var path: String
    var line: Int
    var text: String { "\(path) (line \(line))" }
}

/// Reads section by section; what later sections refer to is read first, whatever the file's order.
struct ConfigurationParser {
    let reader: ConfigurationReader
    var configuration = Configuration()
    /// Ports by name, with faults or not, so that one fault does not cause others.
    var portMentions: [String: Mention] = [:]
    var exceptionMentions: [String: Mention] = [:]
    var underlayPorts: [String: Mention] = [:]
    /// Ports with a VRF.
    var routedPorts: [String: Mention] = [:]
    /// The connected subnets of each VRF, and where they are said.
    var subnets: [String: [(prefix: IPPrefix, owner: String, mention: Mention)]] = [:]
    /// The VRFs that ports name.
    var vrfPlaces: [(vrf: String, value: ConfigurationValue)] = []
    /// The VRFs of `l3vnis` and of ports, with the L3VNI of each that has one: what `static` refers to.
    var vrfs: [String: Configuration.L3VNI?] = [:]
    /// The VRFs by the names of their L3VNIs.
    var vrfOfL3VNI: [String: String] = [:]
    /// Where in `configuration.ports` a port stands.
    var portIndexes: [String: Int] = [:]
    /// Kernel tables by the VRF that they were given to.
    var tableOwners: [UInt32: String] = [:]
    var vniMentions: [VNI: Mention] = [:]
    var l2vniMentions: [String: Mention] = [:]
    /// Where in `configuration.l2vnis` a VNI stands.
    var l2vniIndexes: [VNI: Int] = [:]
    var circuitMentions: [String: Mention] = [:]
    var vxlanPorts: Set<UInt16> = []

    init(file: String) { reader = ConfigurationReader(file: file) }

    /// The largest layer 3 packet of a port: what jumbo-capable NICs take.
    static let mtuRange = 68...9702

    mutating func parse(_ root: Node) {
        let keys = ["dataplane", "ports", "underlays", "l3vnis", "l2vnis", "control", "static"]
        // OpenPERouter's static files hold these beside the ones used here.
        let foreign: Set = ["bgppassthrough", "l3passthroughs", "rawfrrconfigs", "l3vpns"]
        guard let file = reader.value(root, "").section(keys, foreign: foreign) else { return }
        parseDataplane(file)
        parseControl(file)
        for item in file.items("ports") { parsePort(item) }
        portIndexes = Dictionary(
            configuration.ports.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        for item in file.items("underlays") { parseUnderlay(item) }
        checkUnderlays()
        for item in file.items("l3vnis") { parseL3VNI(item) }
        for port in configuration.ports { if let vrf = port.vrf, vrfs[vrf] == nil { vrfs[vrf] = .some(nil) } }
        for item in file.items("l2vnis") { parseL2VNI(item) }
        checkRoutedPorts()
        parseStatic(file)
        checkLimits(file)
        checkUse()
    }

    private mutating func parseDataplane(_ file: ConfigurationSection) {
        let keys = [
            "lcores", "memory", "idle", "limits", "eal", "adminSocket", "adminSocketMode",
            "macAgeingSeconds", "neighborTimeoutSeconds", "nodeIndex",
        ]
        guard let section = file.section("dataplane", keys) else { return }
        var result = Dataplane()
        if let lcores = section.section("lcores", ["main", "workers"]) {
            if let main = lcores["main"]?.integer(in: 0...1023) { result.mainLcore = main }
            if let workers = lcores["workers"] { result.workerLcores = parseWorkers(workers) }
        }
        if let memory = section.section("memory", ["hugepages", "mbufs", "megabytes", "numa"]) {
            if let pages = memory["hugepages"]?.choice(Dataplane.Hugepages.self) {
                result.hugepages = pages
            }
            if let count = memory["mbufs"]?.integer(in: 1024...4_194_304) { result.mbufs = count }
            if let placement = memory["numa"]?.choice(Dataplane.NUMA.self) { result.numa = placement }
            result.memoryMegabytes = memory["megabytes"]?.integer(in: 64...1_048_576)
        }
        if let idle = section.section("idle", ["policy"]),
            let policy = idle["policy"]?.choice(Dataplane.IdlePolicy.self)
        {
            result.idle = policy
        }
        if let limits = section["limits"] { result.limits = parseLimits(limits) }
        result.eal = section.items("eal").compactMap { item in
            guard let text = item.string() else { return nil }
            guard !text.isEmpty, !text.utf8.contains(0) else {
                item.fault("an EAL argument cannot be empty", "write it or leave it out")
                return nil
            }
            return text
        }
        if let path = section["adminSocket"]?.socketPath() { result.adminSocket = path }
        if let mode = section["adminSocketMode"].flatMap(parseMode) {
            result.adminSocketMode = mode
        }
        if let seconds = section["macAgeingSeconds"]?.integer(in: 0...1_000_000) {
            result.macAgeingSeconds = seconds
        }
        if let seconds = section["neighborTimeoutSeconds"]?.integer(in: 3...1_000_000) {
            result.neighborTimeoutSeconds = seconds
        }
        result.nodeIndex = section["nodeIndex"]?.integer(in: 0...1_000_000)
        configuration.dataplane = result
    }
    typealias Dataplane = Configuration.Dataplane

    /// `[1, 2]`, or `"2-5,8"` as taskset writes it.
    private func parseWorkers(_ value: ConfigurationValue) -> [Int] {
        var result: [Int] = []
        if case .sequence = value.node {
            result = (value.list() ?? []).compactMap { $0.integer(in: 0...1023) }
        } else if let text = value.string() {
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                let ends = part.split(separator: "-", omittingEmptySubsequences: false)
                    .map { UInt16($0) }
                guard (1...2).contains(ends.count), let first = ends[0],
                    let last = ends[ends.count - 1],
                    first <= last, last < 1024
                else {
                    value.fault("\"\(value.shown)\" is no list of CPUs", "write [1, 2] or \"1-2\"")
                    return [1]
                }
                result += (first...last).map { Int($0) }
            }
        }
        if result.isEmpty {
            value.fault("there must be a worker", "write for example [1]")
        } else if result.count > TableLimits.maximumWorkers {
            value.fault(
                "\(result.count) workers are more than \(TableLimits.maximumWorkers)",
                "list fewer CPUs"
            )
        }
        return result
    }

    private func parseLimits(_ value: ConfigurationValue) -> Configuration.Limits {
        let fields: [(String, WritableKeyPath<Configuration.Limits, Int>, ClosedRange<Int>)] = [
            ("macs", \.macs, 16...16_777_216),
            ("l2vnis", \.l2vnis, 1...TableLimits.maximumDomains - 1),
            ("vrfs", \.vrfs, 1...TableLimits.maximumVRFs - 1),
            ("neighbors", \.neighbors, 16...16_777_216),
            ("routes", \.routes, 16...16_777_216),
            ("vteps", \.vteps, 1...TableLimits.maximumVTEPs),
            ("ports", \.ports, 1...TableLimits.maximumPorts),
            ("floodTargets", \.floodTargets, 1...65_535),
            ("ecmpPaths", \.ecmpPaths, 1...1024),
        ]
        var limits = Configuration.Limits()
        guard let section = value.section(fields.map(\.0)) else { return limits }
        for (name, path, range) in fields {
            if let number = section[name]?.integer(in: range) { limits[keyPath: path] = number }
        }
        return limits
    }

    /// Permission bits in octal, quoted or not: `0660`, `"0660"`, `0o660`.
    private func parseMode(_ value: ConfigurationValue) -> UInt32? {
        guard let text = value.string() else { return nil }
        let digits = text.hasPrefix("0o") ? text.dropFirst(2) : text[...]
        guard (3...4).contains(digits.utf8.count), digits.first != "+", digits.first != "-",
            let mode = UInt32(digits, radix: 8), mode & ~0o666 == 0, mode & 0o600 == 0o600
        else {
            value.fault(
                "\"\(value.shown)\" is no mode of a socket",
                "write octal read and write bits such as \"0600\" or \"0660\""
            )
            return nil
        }
        return mode
    }

    private mutating func parseControl(_ file: ConfigurationSection) {
        let keys = ["netns", "fpm", "routes", "shadow", "keepShadow", "staleHoldSeconds", "quietSeconds"]
        guard let section = file.section("control", keys) else { return }
        var result = Configuration.Control()
        result.netns = section["netns"].flatMap(parseNamespace)
        if let value = section["fpm"] {
            if case .scalar(let scalar) = value.node, scalar.string == "none" {
                result.fpmListen = nil
            } else if let fpm = value.section(["listen"]), let listen = fpm["listen"] {
                result.fpmListen = listen.string() == "none" ? nil : listen.listenAddress()
            }
        }
        if let routes = section["routes"]?.choice(Configuration.Control.Routes.self) {
            result.routes = routes
        }
        if let shadow = section["shadow"]?.boolean() { result.shadow = shadow }
        if let keep = section["keepShadow"]?.boolean() { result.keepShadow = keep }
        if let seconds = section["staleHoldSeconds"]?.seconds(in: 0...86_400) {
            result.staleHoldSeconds = seconds
        }
        if let seconds = section["quietSeconds"]?.seconds(in: 0.1...600) {
            result.quietSeconds = seconds
        }
        if result.routes == .fpm && result.fpmListen == nil && reader.faults.isEmpty {
            section.value.fault(
                "routes come from FPM, but fpm.listen is none",
                "set fpm: {listen: \"127.0.0.1:2620\"}, or routes: netlink or none"
            )
        }
        configuration.control = result
    }

    /// A name under /run/netns, or an absolute path.
    func parseNamespace(_ value: ConfigurationValue) -> String? {
        guard let text = value.string() else { return nil }
        let isPath = text.hasPrefix("/") && text.utf8.count < 4096
        let isName =
            (1...255).contains(text.utf8.count) && !text.contains("/") && text != "."
            && text != ".."
        guard isPath || isName, text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
            value.fault(
                "\"\(value.shown)\" cannot be a network namespace",
                "write a name as in `ip netns list`, or an absolute path"
            )
            return nil
        }
        return text
    }
}
