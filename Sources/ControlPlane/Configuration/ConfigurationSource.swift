// From a file to a YAML tree, with every way that this can fail named by line and column.

import Foundation
import Glibc
import Yams

/// The text of a configuration and its tree.
struct ConfigurationSource {
    /// Bytes of the largest file taken: 100 000 static MACs are about 8 MB.
    static let byteLimit = 32 << 20
    /// Stands in for keys that occurred twice, so that the rest can still be read.
    static let placeholders: ClosedRange<UInt32> = 0xE000...0xE03F

    let file: String
    private(set) var root: Node?
    private(set) var faults: [ConfigurationError] = []

    /// Reads a file.
    ///
    /// A file that cannot be read is a fault at line 0.
    static func read(_ path: String) -> Result<String, ConfigurationError> {
        let failure = { (message: String, remedy: String) -> Result<String, ConfigurationError> in
            .failure(
                ConfigurationError(
                    file: path,
                    location: SourceLocation(),
                    path: "file",
                    message: message,
                    remedy: remedy
                )
            )
        }
        // Without blocking: a FIFO nobody writes to is refused below, not waited for.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            let why = String(cString: strerror(errno))
            return failure(
                "cannot be opened: \(why)",
                "give the path of a YAML file that can be read"
            )
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return failure("is not a regular file", "give the path of a YAML file")
        }
        guard status.st_size <= byteLimit else {
            return failure(
                "has \(status.st_size) bytes, more than \(byteLimit)",
                "move what is not configuration elsewhere"
            )
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while bytes.count <= byteLimit {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                return failure(
                    "cannot be read: \(String(cString: strerror(errno)))",
                    "check the disk"
                )
            }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            return failure("is not UTF-8 text", "save it as UTF-8")
        }
        return .success(text)
    }

    /// Composes the tree.
    ///
    /// Keys that occur twice are faults of their own and the later one is left
    /// out; any other fault of syntax ends the reading.
    init(text: String, file: String) {
        self.file = file
        guard text.utf8.count <= Self.byteLimit else {
            add(
                SourceLocation(line: 1, column: 1),
                "the text has more than \(Self.byteLimit) bytes",
                "move what is not configuration elsewhere"
            )
            return
        }
        if let alias = AliasScan(text).finding {
            add(
                alias,
                "YAML anchors and aliases (&name, *name) are not supported",
                "write the value out, or put it in quotes if it is text"
            )
            return
        }
        compose(text)
    }

    private mutating func compose(_ original: String) {
        var text = original
        var placeholders = Self.placeholders.makeIterator()
        while true {
            switch Self.parse(text) {
            case .success(let node):
                root = node
                if node == nil {
                    add(
                        SourceLocation(line: 1, column: 1),
                        "the file is empty",
                        "describe at least ports; `pe-dp run --help` shows a first configuration"
                    )
                }
                return
            case .failure(.syntax(let location, let message, let remedy)):
                add(location, message, remedy)
                return
            case .failure(.duplicate(let key, let first)):
                let message = "the key \"\(key.prefix(64))\" occurs twice in one mapping"
                let search = DuplicateSearch(text: text, key: key, first: first)
                guard !search.found.isEmpty,
                    let repaired = search.replaced(by: &placeholders),
                    Self.parse(repaired) != .failure(.duplicate(key, first))
                else {
                    add(first, message, "keep one of them")
                    return
                }
                for place in search.found {
                    add(
                        place.location,
                        "\(message), first at line \(first.line)",
                        "keep one of them"
                    )
                }
                text = repaired
            }
        }
    }

    private mutating func add(_ location: SourceLocation, _ message: String, _ remedy: String) {
        faults.append(
            ConfigurationError(
                file: file,
                location: location,
                path: "yaml",
                message: message,
                remedy: remedy
            )
        )
    }
}

/// Why there is no tree.
enum YAMLFault: Error, Hashable {
    case syntax(SourceLocation, String, String)
    case duplicate(String, SourceLocation)
}

extension ConfigurationSource {
    /// Composes without tag rules: what a scalar is follows from where it stands.
    static func parse(_ text: String) -> Result<Node?, YAMLFault> {
        do {
            return .success(try Yams.compose(yaml: text, .basic, .default, .utf8))
        } catch let error as YamlError {
            return .failure(fault(of: error, in: text))
        } catch {
            return .failure(
                .syntax(SourceLocation(line: 1, column: 1), "\(error)", "write valid YAML")
            )
        }
    }

    private static func fault(of error: YamlError, in text: String) -> YAMLFault {
        let remedy = "check indentation (spaces, no tabs), brackets and quotes here and just before"
        switch error {
        case .scanner(let context, let problem, let mark, _),
            .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            if problem.contains("another document") {
                return .syntax(location(mark), "a second YAML document begins", "keep one document")
            }
            let what = context.map { " (\($0.text), from line \($0.mark.line))" } ?? ""
            return .syntax(location(mark), "not valid YAML: \(problem)\(what)", remedy)
        case .reader(let problem, let offset, _, _):
            let place = SourceLocation(in: text, characterOffset: offset ?? 0)
            return .syntax(place, "not valid YAML: \(problem)", "remove the control character")
        case .duplicatedKeysInMapping(let keys, let context):
            return .duplicate(keys.first ?? "", location(context.mark))
        default:
            return .syntax(SourceLocation(line: 1, column: 1), "not valid YAML: \(error)", remedy)
        }
    }

    private static func location(_ mark: Mark) -> SourceLocation {
        SourceLocation(line: mark.line, column: mark.column)
    }
}

extension SourceLocation {
    /// Where the character with this offset stands.
    fileprivate init(in text: String, characterOffset: Int) {
        self.init(line: 1, column: 1)
        for character in text.prefix(max(0, characterOffset)) {
            if character.isNewline {
                line += 1
                column = 1
            } else {
                column += 1
            }
        }
    }
}

/// Looks for anchors and aliases before the text is composed.
///
/// Yams expands aliases while composing, and hashes keys, which a few nested aliases make as large
/// as memory. Quotes and comments are skipped by simple rules; where these and YAML's differ, the
/// bound on the count of marks outside the rules still keeps the expansion small: eight anchors
/// with four aliases each are 65 536 nodes.
struct AliasScan {
    /// The first anchor or alias; nil when there is none.
    private(set) var finding: SourceLocation?
    private static let anchorLimit = 8, aliasLimit = 32

    init(_ text: String) {
        var anchors = 0
        var aliases = 0
        var location = SourceLocation(line: 1, column: 0)
        var quote: UInt8?
        var isComment = false
        var isEscaped = false
        var previous = UInt8(ascii: "\n")
        var mark: (byte: UInt8, location: SourceLocation, isPlain: Bool)?
        for byte in text.utf8 {
            // Continuation bytes of UTF-8 are no columns.
            if byte & 0xC0 != 0x80 { location.column += 1 }
            if let pending = mark, Self.isName(byte) {
                if pending.byte == UInt8(ascii: "&") { anchors += 1 } else { aliases += 1 }
                if pending.isPlain && finding == nil { finding = pending.location }
            }
            mark = nil
            let isBoundary = !Self.isWord(previous)
            if byte == UInt8(ascii: "&") || byte == UInt8(ascii: "*"), isBoundary {
                mark = (byte, location, quote == nil && !isComment)
            }
            if isComment {
                isComment = byte != 0x0A && byte != 0x0D
            } else if let open = quote {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") && open == UInt8(ascii: "\"") {
                    isEscaped = true
                } else if byte == open {
                    quote = nil
                }
            } else if byte == UInt8(ascii: "#"), Self.isBlank(previous) {
                isComment = true
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'"), isBoundary {
                quote = byte
            }
            if byte == 0x0A { location = SourceLocation(line: location.line + 1, column: 0) }
            previous = byte
        }
        if finding == nil && anchors > Self.anchorLimit && aliases > Self.aliasLimit {
            finding = SourceLocation(line: 1, column: 1)
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte <= 0x20 }
    private static func isName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
    /// Bytes after which neither a quote nor an alias can begin.
    private static func isWord(_ byte: UInt8) -> Bool {
        isName(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "/")
            || byte == UInt8(ascii: "=")
    }
}
