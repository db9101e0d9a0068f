// Typed reading of YAML mappings: each fault is noted with its place, and reading goes on.

import Wire
import Yams

/// Gathers faults and notes while a tree is read.
final class ConfigurationReader {
    /// Faults beyond this many are not worth printing.
    static let faultLimit = 200
    let file: String
    private(set) var faults: [ConfigurationError] = []
    private(set) var notes: [ConfigurationError] = []

    init(file: String) { self.file = file }

    func fault(_ location: SourceLocation, _ path: String, _ message: String, _ remedy: String) {
        guard faults.count < Self.faultLimit else { return }
        faults.append(
            ConfigurationError(
                file: file,
                location: location,
                path: path,
                message: message,
                remedy: remedy
            )
        )
    }

    /// Something that works but is probably not meant.
    func note(_ location: SourceLocation, _ path: String, _ message: String, _ remedy: String) {
        guard notes.count < Self.faultLimit else { return }
        notes.append(
            ConfigurationError(
                file: file,
                location: location,
                path: path,
                message: message,
                remedy: remedy
            )
        )
    }

    func value(_ node: Node, _ path: String) -> ConfigurationValue {
        ConfigurationValue(node: node, path: path, reader: self)
    }

    /// ` (did you mean "ports"?)`, or nothing when no word is near.
    func suggestion(for word: String, among known: [String]) -> String {
        // Nobody will see it, or it is no word: not worth the time.
        guard faults.count < Self.faultLimit, word.unicodeScalars.count <= 64 else { return "" }
        let lowered = Array(word.lowercased())
        let near = known.map { (Self.distance(lowered, Array($0.lowercased())), $0) }
            .filter { $0.0 <= max(1, min(3, $0.1.count / 3)) }
            .min { ($0.0, $0.1) < ($1.0, $1.1) }
        return near.map { " (did you mean \"\($0.1)\"?)" } ?? ""
    }

    /// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`.
    private static func distance(_ a: [Character], _ b: [Character]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var best = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    best = min(best, beforeLast[j - 1] + 1)
                }
                row.append(best)
            }
            beforeLast = last
            last = row
        }
        return last[b.count]
    }
}

/// One YAML value and where it stands.
struct ConfigurationValue {
    let node: Node
    /// Such as `ports[2].driver`.
    let path: String
    let reader: ConfigurationReader

    var location: SourceLocation {
        node.mark.map { SourceLocation(line: $0.line, column: $0.column) } ?? SourceLocation()
    }

    /// `~`, `null` or nothing at all.
    var isNull: Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain || scalar.style == .any else {
            return false
        }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    func fault(_ message: String, _ remedy: String) {
        reader.fault(location, path, message, remedy)
    }

    private var kind: String {
        switch node {
        case .scalar: isNull ? "nothing" : "\"\(shown)\""
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    /// The text as it is put into messages: one line, bounded.
    var shown: String {
        guard case .scalar(let scalar) = node else { return "" }
        let line = scalar.string.prefix(80).map { $0.isNewline ? " " : String($0) }.joined()
        return scalar.string.count > 80 ? line + "…" : line
    }

    func wrongType(_ wanted: String, _ remedy: String) {
        fault("must be \(wanted), not \(kind)", remedy)
    }

    /// Text as written, quoted or not.
    func string() -> String? {
        guard case .scalar(let scalar) = node, !isNull else {
            wrongType("text", "write one value")
            return nil
        }
        return scalar.string
    }

    /// The text of a scalar without quotes.
    private var plain: String? {
        guard case .scalar(let scalar) = node, scalar.style == .plain || scalar.style == .any,
            !isNull
        else { return nil }
        return scalar.string
    }

    func integer(in range: ClosedRange<Int>) -> Int? {
        guard let text = plain, let number = Self.decimal(text) else {
            wrongType(
                "a whole number",
                "write a number from \(range.lowerBound) to \(range.upperBound)"
            )
            return nil
        }
        guard let value = number, range.contains(value) else {
            fault(
                "\(shown) is out of range",
                "write a number from \(range.lowerBound) to \(range.upperBound)"
            )
            return nil
        }
        return value
    }

    /// Nil when the text is no decimal number; a value of nil when it is too large.
    private static func decimal(_ text: String) -> Int?? {
        let digits = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            digits.utf8.count == 1 || digits.first != "0"
        else { return nil }
        return .some(Int(text))
    }

    func seconds(in range: ClosedRange<Double>) -> Double? {
        let remedy = "write seconds from \(range.lowerBound) to \(range.upperBound)"
        guard let text = plain, let value = Double(text), value.isFinite,
            text.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2D })
        else {
            wrongType("a number", remedy)
            return nil
        }
        guard range.contains(value) else {
            fault("\(shown) is out of range", remedy)
            return nil
        }
        return value
    }

    func boolean() -> Bool? {
        switch plain {
        case "true", "True", "TRUE": return true
        case "false", "False", "FALSE": return false
        default:
            wrongType("true or false", "write true or false, without quotes")
            return nil
        }
    }

    func choice<Choice: RawRepresentable & CaseIterable>(_ type: Choice.Type) -> Choice?
    where Choice.RawValue == String {
        let known = Choice.allCases.map(\.rawValue)
        guard case .scalar(let scalar) = node, !isNull else {
            wrongType("one of \(known.joined(separator: ", "))", "write one of these words")
            return nil
        }
        if let value = Choice(rawValue: scalar.string) { return value }
        let near = reader.suggestion(for: scalar.string, among: known)
        fault("\"\(shown)\" is unknown\(near)", "write one of \(known.joined(separator: ", "))")
        return nil
    }

    func list() -> [ConfigurationValue]? {
        guard case .sequence(let sequence) = node else {
            wrongType("a list", "write [a, b], or one `- item` a line")
            return nil
        }
        return sequence.enumerated().map { reader.value($1, "\(path)[\($0)]") }
    }

    /// A mapping with known keys.
    ///
    /// Keys in `foreign` belong to the controller that writes the same
    /// file; they are accepted and not used.
    func section(_ keys: [String], foreign: Set<String> = []) -> ConfigurationSection? {
        guard case .mapping(let mapping) = node else {
            wrongType("a mapping", "write {key: value}, or one `key: value` a line")
            return nil
        }
        var entries: [String: ConfigurationValue] = [:]
        for (key, node) in mapping {
            let keyValue = reader.value(key, path.isEmpty ? "" : path)
            guard case .scalar(let scalar) = key else {
                keyValue.fault("a key must be text", "write `key: value`")
                continue
            }
            let name = scalar.string
            let place = path.isEmpty ? name : "\(path).\(name)"
            if let scalar = name.unicodeScalars.first,
                ConfigurationSource.placeholders.contains(scalar.value) || foreign.contains(name)
            {
                continue
            }
            guard keys.contains(name) else {
                let near = reader.suggestion(for: name, among: keys)
                reader.fault(
                    keyValue.location,
                    path.isEmpty ? "file" : path,
                    "unknown key \"\(keyValue.shown)\"\(near)",
                    "known keys: \(keys.joined(separator: ", "))"
                )
                continue
            }
            entries[name] = reader.value(node, place)
        }
        return ConfigurationSection(value: self, entries: entries)
    }
}

/// A mapping whose keys are known.
///
/// A key with no value counts as absent.
struct ConfigurationSection {
    let value: ConfigurationValue
    fileprivate let entries: [String: ConfigurationValue]

    fileprivate init(value: ConfigurationValue, entries: [String: ConfigurationValue]) {
        self.value = value
        self.entries = entries
    }

    var location: SourceLocation { value.location }
    var path: String { value.path }
    var reader: ConfigurationReader { value.reader }

    subscript(key: String) -> ConfigurationValue? {
        entries[key].flatMap { $0.isNull ? nil : $0 }
    }

    /// The value of a key that must be there.
    func required(_ key: String, _ remedy: String) -> ConfigurationValue? {
        if let value = self[key] { return value }
        reader.fault(
            entries[key]?.location ?? location,
            path.isEmpty ? "file" : path,
            "\(key) is missing",
            remedy
        )
        return nil
    }

    /// Whether the value is this text, be it a word that means nothing in YAML.
    func isWord(_ word: String, at key: String) -> Bool {
        guard case .scalar(let scalar)? = entries[key]?.node else { return false }
        return scalar.string == word
    }

    /// The items of a list; none when the key is absent.
    func items(_ key: String) -> [ConfigurationValue] { self[key]?.list() ?? [] }

    /// The mapping under `key`; nil when absent or none.
    func section(_ key: String, _ keys: [String], foreign: Set<String> = [])
        -> ConfigurationSection?
    {
        self[key]?.section(keys, foreign: foreign)
    }
}
