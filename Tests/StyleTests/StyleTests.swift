// The project's rules that a machine can check (docs/architecture.md, CONTRIBUTING.md).

import Foundation
import Testing

@Suite("Style")
struct StyleTests {
    /// What each library target may import: the planes meet in Tables alone, and what a burst runs
    /// through has neither packages nor Foundation.
    private static let imports: [String: Set<String>] = [
        "Wire": ["CLinux"],
        "Tables": ["CLinux", "Wire"],
        "FastPath": ["CDPDK", "CLinux", "Glibc", "Tables", "Wire", "Synchronization"],
        "ControlPlane": [
            "CLinux", "Tables", "Wire", "Glibc", "Foundation", "Synchronization", "Dispatch", "NIOCore", "NIOPosix",
            "NIOHTTP1", "Logging", "Yams",
        ],
    ]

    /// `file:line: text` of every line that `isFault` names.
    private static func faults(
        _ files: [SourceFile], _ isFault: (Substring) -> Bool
    ) -> [String] {
        files.flatMap { file in
            file.lines.enumerated().filter { isFault($0.element) }.map {
                "\(file.path):\($0.offset + 1): \($0.element.prefix(160))"
            }
        }
    }

    @Test("the tree was found")
    func tree() {
        #expect(SourceTree.sources.count > 50)
        #expect(SourceTree.tests.count > 20)
        #expect(SourceTree.files.contains { $0.path == "docs/architecture.md" })
        for target in Self.imports.keys { #expect(SourceTree.sources.contains { $0.target == target }) }
    }

    @Test("targets import what the architecture allows, and the planes never each other")
    func importRules() {
        for file in SourceTree.sources where file.path.hasSuffix(".swift") {
            guard let target = file.target, let allowed = Self.imports[target] else { continue }
            for line in file.lines {
                let words = line.split(separator: " ").filter {
                    !$0.hasPrefix("@") && !["public", "internal", "private", "fileprivate", "package"].contains($0)
                }
                guard words.first == "import", words.count > 1 else { continue }
                let module = words.last.map { String($0.split(separator: ".")[0]) } ?? ""
                #expect(allowed.contains(module), "\(file.path) imports \(module)")
            }
        }
    }

    @Test("only tests import what tests need")
    func testImports() {
        let forbidden = ["import Testing", "import XCTest", "import TestSupport"]
        #expect(Self.faults(SourceTree.sources) { line in forbidden.contains { line.hasSuffix($0) } } == [])
    }

    @Test("no public header of the DPDK shim includes a DPDK header")
    func publicHeaders() {
        let headers = SourceTree.sources.filter { $0.path.hasPrefix("Sources/CShims/DPDK/include/") }
        #expect(headers.count > 1)
        #expect(Self.faults(headers) { $0.hasPrefix("#include") && $0.contains("rte_") } == [])
    }

    /// Tests may have longer ones: a table of cases reads best with one case a line.
    @Test("lines have at most 120 characters")
    func lineLength() {
        let files = SourceTree.code.filter { !$0.path.hasPrefix("Tests/") }
        #expect(Self.faults(files) { $0.count > 120 } == [])
    }

    @Test("source files have at most 500 lines")
    func fileLength() {
        let long = SourceTree.sources.filter { $0.lines.count > 501 }
        #expect(long.map { "\($0.path): \($0.lines.count - 1) lines" } == [])
    }

    @Test("every file opens with a sentence that says what it is responsible for")
    func openingSentence() {
        for file in SourceTree.code where !file.path.hasSuffix("Package.swift") {
            let opening = file.lines.prefix { $0.hasPrefix("//") }
            #expect(opening.first?.hasPrefix("// ") == true, "\(file.path) opens without a comment")
            #expect(opening.contains { $0.hasSuffix(".") || $0.hasSuffix("?") }, "\(file.path) opens without a sentence")
        }
    }

    private static func dropReasons() throws -> [String] {
        let source = try #require(SourceTree.sources.first { $0.path == "Sources/Tables/DropReason.swift" })
        let cases = source.lines.flatMap { line -> [String] in
            let words = line.split(separator: " ")
            guard words.first == "case" else { return [] }
            return words.dropFirst().map { String($0.filter { $0.isLetter || $0.isNumber }) }
        }
        #expect(cases.count > 30)
        return cases
    }

    @Test("every drop reason is explained to the operator, and no other")
    func dropReasonsInDocuments() throws {
        let text = try #require(SourceTree.files.first { $0.path == "docs/operations.md" }).lines
        let rows = text.drop { $0 != "## Drop reasons" }.dropFirst().prefix { !$0.hasPrefix("## ") }
        let named = rows.filter { $0.hasPrefix("| `") }.flatMap { row in
            row.split(separator: "|")[0].split(separator: "`").map(String.init).filter { $0.contains(where: \.isLetter) }
        }
        #expect(named.sorted() == (try Self.dropReasons()).sorted())
    }

    @Test("every drop reason is named in a test")
    func dropReasons() throws {
        let cases = try Self.dropReasons()
        let missing = cases.filter { reason in
            !SourceTree.tests.contains { $0.text.contains(".\(reason)") || $0.text.contains("\"\(reason)\"") }
        }
        #expect(missing == [], "no test produces these")
    }

    @Test("no path of one machine, and no name of one person's folder")
    func machinePaths() throws {
        // Home folders and the like; written so that this line is no example of one.
        let folders = ["root", "home", "Users", "work"].map { "/\($0)/" }
        let faults = Self.faults(SourceTree.files) { line in
            folders.contains { folder in
                line.ranges(of: folder).contains { range in
                    // The same word inside a longer path or an address is something else.
                    guard range.lowerBound > line.startIndex else { return true }
                    let before = line[line.index(before: range.lowerBound)]
                    return !(before.isLetter || before.isNumber || "._-/}:".contains(before))
                }
            }
        }
        #expect(faults == [])
    }

    @Test("what is to be done has an issue's number")
    func openTasks() {
        let marks = ["TO" + "DO", "FIX" + "ME"]
        let faults = Self.faults(SourceTree.files) { line in
            marks.contains { line.contains($0) } && !marks.contains { line.contains("\($0)(#") }
        }
        #expect(faults == [])
    }

    @Test("the map in docs/architecture.md names every source file, and no other")
    func fileMap() throws {
        let map = try #require(SourceTree.files.first { $0.path == "docs/architecture.md" }).text
        let missing = SourceTree.sources.map(\.path).filter { !map.contains("`\($0)`") }
        #expect(missing == [], "scripts/file-map writes the map")
        let known = Set(SourceTree.sources.map(\.path))
        let named = map.split(separator: "`").map(String.init).filter { name in
            name.hasPrefix("Sources/") && [".swift", ".c", ".h"].contains { name.hasSuffix($0) }
        }
        #expect(named.filter { !known.contains($0) } == [], "these are gone")
    }
}
