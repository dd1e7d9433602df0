package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Cleaning says what [Catalog.Clean] may remove.
type Cleaning struct {
	// Keep is how many releases of one name and architecture stay beside those
	// that are needed: the last baked ones. Negative: all.
	Keep   int
	DryRun bool // only say what would go
}

// A Removal is one thing that Clean removed: a release with all that is known
// of it or, where Path is set, one artifact of a release that stays.
type Removal struct {
	Release string `json:"release"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Path    string `json:"path,omitempty"`
	Why     string `json:"why"`
}

// Clean removes records of artifacts whose files are gone or replaced, and of
// releases that have no other artifact or are older than those to keep. A
// release that a channel leads to or that has a reference is needed: all that is
// known of it stays. Clean touches no files.
func (c *Catalog) Clean(ctx context.Context, o Cleaning) ([]Removal, error) {
	removals := []Removal{}
	do := func(ctx context.Context, conn *sql.Conn) error {
		releases, err := readReleases(ctx, conn)
		if err != nil {
			return err
		}
		there, err := look(releases)
		if err != nil {
			return err
		}
		// After a removal that we heard nothing of there is nothing to decide.
		if found := decide(releases, there, o.Keep); len(found) > 0 {
			removals = found
		}
		for _, r := range removals {
			if !o.DryRun {
				if err := r.remove(ctx, conn); err != nil {
					return err
				}
			}
		}
		return nil
	}
	run := c.write
	if o.DryRun {
		run = c.read
	}
	if err := run(ctx, do); err != nil {
		return nil, fmt.Errorf("cleaning the catalog: %w", err)
	}
	return removals, nil
}

// look gives the sizes of the artifacts' files that are there.
func look(releases []Release) (map[string]int64, error) {
	there := map[string]int64{}
	for _, r := range releases {
		for _, a := range r.Artifacts {
			info, err := os.Stat(a.Path)
			switch {
			case err == nil:
				there[a.Path] = info.Size()
			case !errors.Is(err, fs.ErrNotExist):
				return nil, err // we may not look, which is not the same
			}
		}
	}
	return there, nil
}

// decide says what goes. Releases come newest first; there are the files'
// sizes.
func decide(releases []Release, there map[string]int64, keep int) []Removal {
	newest := map[string]Artifact{} // by path: a file is what was last baked there
	for _, r := range releases {
		for _, a := range r.Artifacts {
			if a.bake >= newest[a.Path].bake {
				newest[a.Path] = a
			}
		}
	}
	gone := func(a Artifact) string {
		size, ok := there[a.Path]
		switch {
		case !ok:
			return "the file is gone"
		case size != a.Size || newest[a.Path].SHA256 != a.SHA256:
			return "another file is in its place"
		}
		return ""
	}

	var removals []Removal
	kept := map[[2]string]int{}
	for _, r := range releases {
		if len(r.Channels) > 0 || len(r.References) > 0 {
			continue
		}
		removal := Removal{Release: r.Release, Name: r.Name, Version: r.Version, Arch: r.Arch}
		var lost []Removal
		for _, a := range r.Artifacts {
			if why := gone(a); why != "" {
				one := removal
				one.Path, one.Why = a.Path, why
				lost = append(lost, one)
			}
		}
		kind := [2]string{r.Name, r.Arch}
		switch {
		case len(lost) == len(r.Artifacts):
			removal.Why = "its files are gone"
			removals = append(removals, removal)
		case keep >= 0 && kept[kind] >= keep:
			removal.Why = fmt.Sprintf("%d newer of %s for %s are kept", keep, r.Name, r.Arch)
			removals = append(removals, removal)
		default:
			kept[kind]++
			removals = append(removals, lost...)
		}
	}
	return removals
}

func (r Removal) remove(ctx context.Context, conn *sql.Conn) error {
	if r.Path != "" {
		_, err := conn.ExecContext(ctx, "DELETE FROM artifacts WHERE release = ? AND path = ?", r.Release, r.Path)
		return err
	}
	for _, table := range []string{"artifacts", "bakes"} {
		if _, err := conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE release = ?", r.Release); err != nil {
			return err
		}
	}
	return nil
}
