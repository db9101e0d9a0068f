// The repository's text files, as the style tests read them.

import Foundation

/// One text file: its path from the repository's root, and its lines.
struct SourceFile: Sendable, CustomStringConvertible {
    let path: String
    let text: String
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    var description: String { path }
    /// The top folders' names: `Sources`, `Tables`, …
    var folders: [Substring] { path.split(separator: "/").dropLast() }
    /// The SwiftPM target of a file below Sources.
    var target: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }
}

enum SourceTree {
    static let root = (#filePath as String).split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
    private static let texts: Set<String> = [
        "swift", "c", "h", "md", "py", "sh", "yaml", "yml", "service", "swift-format", "modulemap", "",
    ]
    /// What is not the project's own text: build products, version control, recorded data.
    private static func isSkipped(_ path: String) -> Bool {
        let parts = path.split(separator: "/")
        return parts.contains { $0.hasPrefix(".build") || $0 == ".git" || $0 == "__pycache__" || $0 == "Recordings" }
            || path.hasPrefix("out/") || path.hasPrefix("fuzz/regressions/") || path == "Package.resolved"
    }

    /// Every text file of the repository.
    static let files: [SourceFile] = {
        let names = FileManager.default.enumerator(atPath: root)
        var files: [SourceFile] = []
        while let name = names?.nextObject() as? String {
            if isSkipped(name) {
                names?.skipDescendants()
                continue
            }
            let suffix = name.split(separator: "/").last.flatMap { file in
                file.contains(".") ? file.split(separator: ".").last.map(String.init) : ""
            }
            guard let suffix, texts.contains(suffix),
                let data = FileManager.default.contents(atPath: "\(root)/\(name)"),
                let text = String(data: data, encoding: .utf8)
            else { continue }
            files.append(SourceFile(path: name, text: text))
        }
        return files.sorted { $0.path < $1.path }
    }()

    /// Swift and C files.
    static let code = files.filter { file in [".swift", ".c", ".h"].contains { file.path.hasSuffix($0) } }
    static let sources = code.filter { $0.path.hasPrefix("Sources/") }
    static let tests = code.filter { $0.path.hasPrefix("Tests/") }
}
