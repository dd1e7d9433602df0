package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Bake is one run that made artifacts. Digests are sha256 in hexadecimal.
type Bake struct {
	Release   string     `json:"release"` // hash of recipe and lock
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	Arch      string     `json:"arch"`
	Recipe    string     `json:"recipe"` // digest of the file
	Lock      string     `json:"lock"`   // digest
	Tool      string     `json:"tool"`   // version of the program
	At        time.Time  `json:"at"`     // when it was done
	Artifacts []Artifact `json:"-"`      // what it made; a [Release] lists them
}

// An Artifact is one file that a bake made.
type Artifact struct {
	Platform string `json:"platform"`
	Format   string `json:"format"`
	Path     string `json:"path"` // absolute
	Size     int64  `json:"size"` // bytes
	SHA256   string `json:"sha256"`

	bake int64 // number of the last bake that made it
}

// A Release is what the catalog knows of one release.
type Release struct {
	Release    string      `json:"release"`
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	Arch       string      `json:"arch"`
	Channels   []string    `json:"channels"` // sorted
	Bakes      []Bake      `json:"bakes"`    // newest first
	Artifacts  []Artifact  `json:"artifacts"`
	References []Reference `json:"references"`
}

// Record keeps a bake and its artifacts.
func (c *Catalog) Record(ctx context.Context, b Bake) error {
	texts := []string{b.Release, b.Name, b.Version, b.Arch, b.Recipe, b.Lock, b.Tool}
	for _, a := range b.Artifacts {
		if !filepath.IsAbs(a.Path) {
			return fmt.Errorf("recording a bake: path %q is not absolute", a.Path)
		}
		texts = append(texts, a.Platform, a.Format, a.Path, a.SHA256)
	}
	if b.Release == "" {
		return errors.New("recording a bake: it has no release")
	}
	if err := clean(texts...); err != nil {
		return fmt.Errorf("recording a bake: %w", err)
	}
	id := rand.Text()
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "INSERT OR IGNORE INTO bakes (id, release, name, version, arch, recipe, lock, tool, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			id, b.Release, b.Name, b.Version, b.Arch, b.Recipe, b.Lock, b.Tool, stamp(b.At))
		if err != nil {
			return err
		}
		for _, a := range b.Artifacts {
			_, err := conn.ExecContext(ctx, "INSERT OR REPLACE INTO artifacts (release, path, platform, format, size, sha256, bake) VALUES (?, ?, ?, ?, ?, ?, ?)",
				b.Release, a.Path, a.Platform, a.Format, a.Size, a.SHA256, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording a bake: %w", err)
	}
	return nil
}

// Releases lists what there is, the last baked first.
func (c *Catalog) Releases(ctx context.Context) ([]Release, error) {
	var releases []Release
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		releases, err = readReleases(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading releases: %w", err)
	}
	return releases, nil
}

func readReleases(ctx context.Context, conn *sql.Conn) ([]Release, error) {
	releases := []Release{}
	index := map[string]int{}
	err := query(ctx, conn, func(rows *sql.Rows) error {
		var b Bake
		var at string
		if err := rows.Scan(&b.Release, &b.Name, &b.Version, &b.Arch, &b.Recipe, &b.Lock, &b.Tool, &at); err != nil {
			return err
		}
		var err error
		if b.At, err = unstamp(at); err != nil {
			return err
		}
		i, ok := index[b.Release]
		if !ok {
			i = len(releases)
			index[b.Release] = i
			releases = append(releases, Release{Release: b.Release, Name: b.Name, Version: b.Version, Arch: b.Arch,
				Channels: []string{}, Artifacts: []Artifact{}, References: []Reference{}})
		}
		releases[i].Bakes = append(releases[i].Bakes, b)
		return nil
	}, "SELECT release, name, version, arch, recipe, lock, tool, at FROM bakes ORDER BY n DESC")
	if err != nil {
		return nil, err
	}
	err = query(ctx, conn, func(rows *sql.Rows) error {
		var release string
		var a Artifact
		if err := rows.Scan(&release, &a.Platform, &a.Format, &a.Path, &a.Size, &a.SHA256, &a.bake); err != nil {
			return err
		}
		if i, ok := index[release]; ok {
			releases[i].Artifacts = append(releases[i].Artifacts, a)
		}
		return nil
	}, "SELECT a.release, a.platform, a.format, a.path, a.size, a.sha256, b.n FROM artifacts a JOIN bakes b ON b.id = a.bake ORDER BY a.path")
	if err != nil {
		return nil, err
	}
	channels, err := readChannels(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, ch := range channels {
		if i, ok := index[ch.Release]; ok {
			releases[i].Channels = append(releases[i].Channels, ch.Name)
		}
	}
	references, err := readReferences(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, r := range references {
		if i, ok := index[r.Release]; ok {
			releases[i].References = append(releases[i].References, r)
		}
	}
	return releases, nil
}

// Find returns the release whose id begins with prefix, or that a channel of
// this name leads to.
func (c *Catalog) Find(ctx context.Context, prefix string) (*Release, error) {
	releases, err := c.Releases(ctx)
	if err != nil {
		return nil, err
	}
	return find(releases, prefix)
}

func find(releases []Release, prefix string) (*Release, error) {
	for i, r := range releases {
		if slices.Contains(r.Channels, prefix) {
			return &releases[i], nil
		}
	}
	var found []int
	for i, r := range releases {
		if prefix != "" && strings.HasPrefix(r.Release, prefix) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return nil, &UnknownReleaseError{Name: prefix, Fitting: len(found)}
	}
	return &releases[found[0]], nil
}

// An UnknownReleaseError says that a name fits no release, or more than one.
type UnknownReleaseError struct {
	Name    string
	Fitting int // releases
}

func (e *UnknownReleaseError) Error() string {
	if e.Fitting == 0 {
		return fmt.Sprintf("no release and no channel is named %q", e.Name)
	}
	return fmt.Sprintf("%q fits %d releases", e.Name, e.Fitting)
}

// Hint shows what there is.
func (e *UnknownReleaseError) Hint() string { return "prose-image catalog ls" }

// inOrder sorts channels by name.
func inOrder(channels []Channel) []Channel {
	slices.SortFunc(channels, func(a, b Channel) int { return cmp.Compare(a.Name, b.Name) })
	return channels
}
