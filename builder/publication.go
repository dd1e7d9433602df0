package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/builder/catalog"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/publish"
)

// A Publication says what of a bake goes where.
type Publication struct {
	Image    string // directory of a bake, for all artifacts in it, or one of the files there
	Version  string // to publish as; empty: the bake's
	Channel  string // pointer that is to lead to it; empty: none
	Address  string // of the target; see publish.Kinds
	Catalog  string // directory of the catalog; empty: the user's own, if the program has one
	Progress progress.Func
}

// Look says what [Publish] would do. It changes nothing.
func (p Publication) Look(ctx context.Context) (*publish.Preview, error) {
	img, err := p.image()
	if err != nil {
		return nil, err
	}
	return publish.Look(ctx, publish.Config{Image: img, Address: p.Address})
}

// Publish brings what a bake made to a target. The catalog has the journal, and
// remembers where each file went; a program that was built without one keeps the
// journal in files. A report may come with an error: see [publish.Run].
func (p Publication) Publish(ctx context.Context) (*publish.Report, error) {
	img, err := p.image()
	if err != nil {
		return nil, err
	}
	if _, _, err := publish.Open(p.Address); err != nil {
		return nil, err // before a catalog is made
	}
	c := publish.Config{Image: img, Address: p.Address, Progress: p.Progress}
	journal, known, err := openJournal(ctx, p.Catalog)
	if err != nil {
		return nil, err
	}
	if known != nil {
		defer known.Close()
	}
	c.Journal = journal
	report, err := publish.Run(ctx, c)
	if report == nil || known == nil {
		return report, err
	}
	for _, went := range report.Published {
		for _, f := range img.Files {
			if f.Name == went.Part {
				err = errors.Join(err, known.AddReference(ctx, catalog.Reference{Release: f.Release, SHA256: f.SHA256, Target: report.Target, ID: went.ID, At: time.Now()}))
			}
		}
	}
	return report, err
}

func (p Publication) image() (publish.Image, error) {
	img, err := OpenImage(p.Image, p.Version)
	img.Channel = p.Channel
	return img, err
}

// Sweep removes what interrupted publishing left at a target. c needs no
// journal: it is the catalog's, in the directory dir, or the one of [Publish].
func Sweep(ctx context.Context, dir string, c publish.SweepConfig) ([]publish.Leftover, error) {
	if _, _, err := publish.Open(c.Address); err != nil {
		return nil, err
	}
	journal, known, err := openJournal(ctx, dir)
	if err != nil {
		return nil, err
	}
	if known != nil {
		defer known.Close()
	}
	c.Journal = journal
	return publish.Sweep(ctx, c)
}

// openJournal opens the journal in the catalog. In a program without the catalog
// it is files of the user's own, unless the catalog is asked for.
func openJournal(ctx context.Context, dir string) (publish.Journal, *catalog.Catalog, error) {
	known, err := openCatalog(ctx, dir)
	if err == nil {
		return known.Journal(), known, nil
	}
	if !errors.Is(err, catalog.ErrUnavailable) || dir != "" {
		return nil, nil, err
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil, fmt.Errorf("finding the journal: %w", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	return publish.OpenFileJournal(filepath.Join(data, "prose-image", "publish")), nil, nil
}
