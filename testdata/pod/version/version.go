// Package version holds what the programs say about their version.
package version

// Info is upstream's VersionInfo.
type Info struct {
	Version        string `json:"version"`
	Tag            string `json:"tag"`
	BuildDate      string `json:"build_date"`
	BuildTimestamp string `json:"build_timestamp"`
	CommitShort    string `json:"commit_short"`
	CommitLong     string `json:"commit_long"`
}

// The tags of the images that the double stands in for, and the date that all
// of them bear.
const (
	App       = "0.14.1"
	Dashboard = "0.3.2"
	API       = "0.20.0"
	Server    = "0.4.3"

	Timestamp = "2026-02-19T00:00:00Z"
)

// Commit stands where upstream has the hash of a commit; it is none of theirs.
const Commit = "d0b1ed0b1ed0b1ed0b1ed0b1ed0b1ed0b1ed0b1e"

// Of returns the version information of tag.
func Of(tag string) Info {
	date := Timestamp[:len("2006-01-02")]
	return Info{
		Version:        tag + " (" + date + ")",
		Tag:            tag,
		BuildDate:      date,
		BuildTimestamp: Timestamp,
		CommitShort:    Commit[:7],
		CommitLong:     Commit,
	}
}
