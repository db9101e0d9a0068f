// What the documents say of the configuration, held against the parser.

import Foundation
import Testing

@testable import ControlPlane

/// A document of the repository as text.
private func document(_ name: String) throws -> String {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    let data = try #require(
        FileManager.default.contents(atPath: root.appendingPathComponent(name).path)
    )
    return String(decoding: data, as: UTF8.self)
}

/// The YAML blocks of a document, in order.
private func yamlBlocks(_ text: String) -> [String] {
    text.components(separatedBy: "```yaml\n").dropFirst().map {
        $0.components(separatedBy: "```").first ?? ""
    }
}

@Suite("Documents") struct ConfigurationDocumentTests {
    @Test("the first configuration of the README is valid and nothing in it is doubtful")
    func readme() throws {
        let block = try #require(yamlBlocks(try document("README.md")).first)
        let reading = Configuration.read(yaml: block, file: "README.md")
        #expect(reading.faults == [])
        #expect(reading.notes == [])
        #expect(reading.configuration.ports.count == 3)
    }

    @Test("the sections of configuration.md together are one valid configuration")
    func sections() throws {
        let blocks = yamlBlocks(try document("docs/configuration.md"))
        #expect(blocks.count == 7)
        // The control section names a namespace, the static one a VTEP: all must fit together.
        let reading = Configuration.read(yaml: blocks.joined(), file: "docs/configuration.md")
        #expect(reading.faults == [])
        #expect(reading.configuration.static.macs.count == 1)
        #expect(reading.configuration.control.netns == "perouter")
    }

    /// A file with an unknown key in one place; the error lists the keys that are known there.
    static let places = [
        "x: 1", "dataplane: {x: 1}", "dataplane: {lcores: {x: 1}}", "dataplane: {memory: {x: 1}}",
        "dataplane: {idle: {x: 1}}", "dataplane: {limits: {x: 1}}", "ports: [{x: 1}]",
        "ports: [{name: a, driver: \"null\", exception: {x: 1}}]", "underlays: [{x: 1}]",
        "underlays: [{tunnelEndpoint: {x: 1}}]", "l2vnis: [{x: 1}]",
        "l2vnis: [{vni: 1, ports: [{x: 1}]}]",
        "l3vnis: [{x: 1}]", "control: {x: 1}", "control: {fpm: {x: 1}}", "static: {x: 1}",
        "static: {vteps: [{x: 1}]}", "static: {macs: [{x: 1}]}", "static: {neighbors: [{x: 1}]}",
        "static: {routes: [{x: 1}]}", "static: {routes: [{nexthops: [{x: 1}]}]}", "static: {underlay: [{x: 1}]}",
    ]

    @Test("every key that the parser knows is in configuration.md", arguments: places)
    func keys(place: String) throws {
        let fault = try #require(
            Configuration.read(yaml: place).faults.first {
                $0.message.hasPrefix("unknown key \"x\"")
            }
        )
        let list = try #require(fault.remedy.split(separator: ": ").last)
        let text = try document("docs/configuration.md")
        for key in list.components(separatedBy: ", ") {
            let isThere =
                text.range(
                    of: "(`|\\.|## )\(key)(`|\\.|\\[|\n)",
                    options: .regularExpression
                ) != nil
            #expect(isThere, "\(key), known in \(place)")
        }
    }

    @Test("the limits' defaults in configuration.md are those of the code") func limits() throws {
        let text = try document("docs/configuration.md")
        for child in Mirror(reflecting: Configuration.Limits()).children {
            let name = try #require(child.label)
            #expect(text.contains("| `\(name)` | \(child.value) |"), "\(name)")
        }
    }
}
