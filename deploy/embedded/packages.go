//go:build !noembed && (linux || darwin)

package embedded

import "runtime"

// enginePackage is one npm package that holds an engine for one platform.
type enginePackage struct {
	engine        string // folder name in the cache and word in messages
	flag          string // what to give instead
	name, version string
	// integrity is the package's sha512 in the registry's own notation. Empty: this package's checksum was not to
	// be had when the versions were pinned, so only npm's own check against the registry stands.
	integrity string
	// prefix is the part of the package to unpack; it is stripped from the path.
	prefix string
	// files limits unpacking to these paths below prefix; nil takes all.
	files []string
	// key is a file that must exist after unpacking.
	key string

	stageFetch, stageUnpack string
	packedBytes             int64 // about, for progress
}

func (p enginePackage) spec() string { return p.name + "@" + p.version }

// Pinned versions. A new version means new checksums: `npm view NAME@VERSION dist.integrity`.
const (
	postgresVersion   = "18.4.0-beta.17"
	clickhouseVersion = "26.7.3-stable.1"
)

var postgresIntegrity = map[string]string{
	"linux-x64":    "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	"linux-arm64":  "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	"darwin-x64":   "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	"darwin-arm64": "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
}

var clickhouseIntegrity = map[string]string{
	"linux-x64":    "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
	"linux-arm64":  "",
	"darwin-x64":   "",
	"darwin-arm64": "",
}

// platform is GOOS-GOARCH in the words of the npm packages.
func platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

func postgresPackage(platform string) (enginePackage, error) {
	integrity, ok := postgresIntegrity[platform]
	if !ok {
		return enginePackage{}, &PlatformError{Engine: "Postgres", Platform: platform, Flag: "--postgres"}
	}
	return enginePackage{
		engine: "postgres", flag: "--postgres",
		name: "@embedded-postgres/" + platform, version: postgresVersion, integrity: integrity,
		prefix: "package/native/", key: "bin/postgres",
		stageFetch: StageFetchPostgres, stageUnpack: StageUnpackPostgres,
		packedBytes: 24 << 20,
	}, nil
}

func clickhousePackage(platform string) (enginePackage, error) {
	integrity, ok := clickhouseIntegrity[platform]
	if !ok {
		return enginePackage{}, &PlatformError{Engine: "ClickHouse", Platform: platform, Flag: "--clickhouse"}
	}
	name := "@chdb/lib-" + platform
	if runtime.GOOS == "linux" {
		name += "-gnu"
	}
	return enginePackage{
		engine: "clickhouse", flag: "--clickhouse",
		name: name, version: clickhouseVersion, integrity: integrity,
		prefix: "package/", files: []string{"libchdb.so", "libchdb.dylib"}, key: "libchdb.*",
		stageFetch: StageFetchClickHouse, stageUnpack: StageUnpackClickHouse,
		packedBytes: 178 << 20,
	}, nil
}
