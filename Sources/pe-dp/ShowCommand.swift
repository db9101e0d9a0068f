// `pe-dp show …`: the state of the running daemon, topic by topic.

import ArgumentParser
import ControlPlane
import Foundation
import Wire

/// The parent of all topics.
struct ShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show the state of the running daemon.",
        discussion: """
            Every topic prints a table, or with --json rows in a stable order:

              pe-dp show fdb --vni 110
              pe-dp show fdb --mac 02:00:00:00:00:01 --json
              pe-dp show drops
            """,
        subcommands: [
            ShowPorts.self, ShowVNIs.self, ShowVRFs.self, ShowFDB.self, ShowRoutes.self,
            ShowNeighbors.self, ShowNextHops.self, ShowVTEPs.self, ShowFlood.self,
            ShowCounters.self, ShowDrops.self, ShowControl.self, ShowLcores.self,
        ]
    )
}

/// One topic; its options say which rows.
protocol ShowSubcommand: ParsableCommand {
    static var topic: ShowTopic { get }
    var options: ClientOptions { get }
    var filter: ShowFilter { get }
}

extension ShowSubcommand {
    var filter: ShowFilter { ShowFilter() }

    func run() throws {
        let filter = filter
        let body = try options.ask { client throws(AdminClientError) in
            try client.show(Self.topic, filter: filter)
        }
        let answer = try options.decode { try ShowAnswer(json: body, topic: Self.topic) }
        if options.json {
            printBody(body)
        } else {
            print(answer.table, terminator: "")
        }
        if answer.isEmpty && !filter.isEmpty { try complain(filter) }
    }

    /// An empty table of something that exists is an answer; of something unknown it is a failure.
    private func complain(_ filter: ShowFilter) throws {
        let rows = { (topic: ShowTopic, filter: ShowFilter) throws -> ShowAnswer in
            let body = try options.ask { client throws(AdminClientError) in
                try client.show(topic, filter: filter)
            }
            return try options.decode { try ShowAnswer(json: body, topic: topic) }
        }
        if let vni = filter.vni, try rows(.vnis, ShowFilter(vni: vni)).isEmpty {
            throw CommandFailure(.invalid, "there is no VNI \(vni); see pe-dp show vnis")
        }
        if let vrf = filter.vrf, try rows(.vrfs, ShowFilter(vrf: vrf)).isEmpty {
            throw CommandFailure(.invalid, "there is no VRF \"\(vrf)\"; see pe-dp show vrfs")
        }
        if let port = filter.port, try rows(.ports, ShowFilter(port: port)).isEmpty {
            throw CommandFailure(.invalid, "there is no port \"\(port)\"; see pe-dp show ports")
        }
        if let prefix = filter.prefix {
            throw CommandFailure(.invalid, "no route has \(prefix)")
        }
        if let mac = filter.mac {
            throw CommandFailure(.invalid, "\(mac) is not in \(Self.topic.rawValue)")
        }
    }
}

private func about(_ name: String, _ abstract: String, _ discussion: String = "")
    -> CommandConfiguration
{
    CommandConfiguration(commandName: name, abstract: abstract, discussion: discussion)
}

/// Ports with state and packets.
struct ShowPorts: ShowSubcommand {
    static let topic = ShowTopic.ports
    static let configuration = about("ports", "Ports: driver, role, state, MAC, MTU, packets.")
    @OptionGroup var options: ClientOptions
    @Option(help: "This port only.") var port: String?
    var filter: ShowFilter { ShowFilter(port: port) }
}

/// L2VNIs and L3VNIs.
struct ShowVNIs: ShowSubcommand {
    static let topic = ShowTopic.vnis
    static let configuration = about(
        "vnis",
        "VNIs: VRF, own VTEP, circuits, how many MACs and VTEPs."
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "This VNI only.") var vni: VNI?
    @Option(help: "VNIs of this VRF only.") var vrf: String?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, vrf: vrf) }
}

/// VRFs.
struct ShowVRFs: ShowSubcommand {
    static let topic = ShowTopic.vrfs
    static let configuration = about("vrfs", "VRFs: kernel table, L3VNI, own router MAC, routes.")
    @OptionGroup var options: ClientOptions
    @Option(help: "This VRF only.") var vrf: String?
    @Option(help: "The VRF of this VNI only.") var vni: VNI?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, vrf: vrf) }
}

/// MACs.
struct ShowFDB: ShowSubcommand {
    static let topic = ShowTopic.fdb
    static let configuration = about(
        "fdb",
        "MACs: where each one is, and who says so.",
        """
        local MACs are behind a circuit, remote ones behind a VTEP; static ones are configured.

          pe-dp show fdb --vni 110          against FRR: show evpn mac vni 110
          pe-dp show fdb --port host1       who is behind this port?
        """
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "MACs of this VNI only.") var vni: VNI?
    @Option(help: "This MAC only; exit code 1 when it is not there.") var mac: MACAddress?
    @Option(help: "MACs behind this port only.") var port: String?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, mac: mac, port: port) }
}

/// Routes.
struct ShowRoutes: ShowSubcommand {
    static let topic = ShowTopic.routes
    static let configuration = about(
        "routes",
        "Routes of the underlay and of VRFs, with next hops, and why some are not used.",
        """
          pe-dp show routes --vrf red
          pe-dp show routes --vrf red --prefix 10.9.1.1      every route around the address
        """
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "Routes of this VRF only; \"default\" is the main table.") var vrf: String?
    @Option(help: "Routes through this L3VNI only.") var vni: VNI?
    @Option(help: "This prefix only; of an address, every prefix that contains it.") var prefix: IPPrefix?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, vrf: vrf, prefix: prefix) }
}

/// IP–MAC bindings.
struct ShowNeighbors: ShowSubcommand {
    static let topic = ShowTopic.neighbors
    static let configuration = about(
        "neighbors",
        "IP addresses and their MACs, overlay and underlay."
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "Neighbors of this VNI only.") var vni: VNI?
    @Option(help: "Neighbors of this VRF only.") var vrf: String?
    @Option(help: "Neighbors with this MAC only.") var mac: MACAddress?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, vrf: vrf, mac: mac) }
}

/// Next hops and groups.
struct ShowNextHops: ShowSubcommand {
    static let topic = ShowTopic.nexthops
    static let configuration = about(
        "nexthops", "Next hops and groups by zebra's identifiers: router MACs, members, slots.")
    @OptionGroup var options: ClientOptions
}

/// Remote tunnel end points.
struct ShowVTEPs: ShowSubcommand {
    static let topic = ShowTopic.vteps
    static let configuration = about(
        "vteps",
        "Remote VTEPs: VNIs, underlay paths, and whether packets can leave.",
        "An unresolved VTEP has no underlay route, or a next hop whose MAC is unknown."
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "VTEPs of this VNI only.") var vni: VNI?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue) }
}

/// Flood lists.
struct ShowFlood: ShowSubcommand {
    static let topic = ShowTopic.flood
    static let configuration = about(
        "flood",
        "Where broadcast, unknown unicast and multicast go, by VNI.",
        "  pe-dp show flood --vni 110        against FRR: show evpn vni 110"
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "This VNI only.") var vni: VNI?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue) }
}

/// Packet counters.
struct ShowCounters: ShowSubcommand {
    static let topic = ShowTopic.counters
    static let configuration = about(
        "counters",
        "Packets: totals, by VNI, by port.",
        "received + replicated = sent + punted + dropped, but for packets in flight."
    )
    @OptionGroup var options: ClientOptions
    @Option(help: "Totals and this VNI only.") var vni: VNI?
    @Option(help: "Totals and this port only.") var port: String?
    var filter: ShowFilter { ShowFilter(vni: vni?.rawValue, port: port) }
}

/// Drops by reason.
struct ShowDrops: ShowSubcommand {
    static let topic = ShowTopic.drops
    static let configuration = about(
        "drops",
        "Dropped packets by reason, and what the reason means."
    )
    @OptionGroup var options: ClientOptions
}

/// The control plane.
struct ShowControl: ShowSubcommand {
    static let topic = ShowTopic.control
    static let configuration = about(
        "control",
        "FPM connections, kernel dumps, errors, generations, shadow devices."
    )
    @OptionGroup var options: ClientOptions
}

/// Lcores.
struct ShowLcores: ShowSubcommand {
    static let topic = ShowTopic.lcores
    static let configuration = about("lcores", "Lcores: CPU, share of time busy, packets a burst.")
    @OptionGroup var options: ClientOptions
}
