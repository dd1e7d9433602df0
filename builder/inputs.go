package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/dockerstore"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/recipe"
	"github.com/prose-im/prose-image/overlays"
)

// Inputs are everything that a plan is made from, read into memory.
type Inputs struct {
	Recipe  *recipe.Recipe
	Lock    *Lock
	Run     [][]byte        // the recipe's scripts
	Initrd  []overlays.File // before the first package
	Base    []overlays.File // over the packages
	Overlay []overlays.File // the recipe's own, later over earlier, sorted by path
	Bundle  *Bundle
	Agent   Agent
	Engine  string // version of Docker in the lock
}

// load reads the recipe and what it names, and the lock; it makes and writes
// the lock when there is none.
func load(ctx context.Context, c *Config) (*Inputs, error) {
	in, err := loadInputs(c)
	if err != nil {
		return nil, err
	}
	in.Lock, err = ReadLock(c.Lock)
	switch {
	case err == nil:
		if err := in.Lock.fits(c.Lock, in.Recipe, in.request(), in.imageNames()); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist) && c.Offline:
		return nil, &NoLockError{Path: c.Lock, Recipe: c.Recipe}
	case errors.Is(err, fs.ErrNotExist):
		if err := in.resolve(ctx, c); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	in.Engine, err = in.Lock.engine()
	return in, err
}

// sums are the digests of the recipe, its file or what stands for one, and of
// the lock.
func (in *Inputs) sums(c *Config) (recipe, lock string, err error) {
	b := c.Document
	if b == nil {
		if b, err = os.ReadFile(c.Recipe); err != nil {
			return "", "", fmt.Errorf("reading recipe: %w", err)
		}
	}
	l, err := in.Lock.Sum()
	return fmt.Sprintf("%x", sha256.Sum256(b)), fmt.Sprintf("%x", l), err
}

// loadInputs reads all that lies on this machine, without the lock.
func loadInputs(c *Config) (*Inputs, error) {
	if err := c.findAgent(); err != nil {
		return nil, err
	}
	r, err := c.recipe()
	if err != nil {
		return nil, err
	}
	if c.Formats != nil {
		r.Formats = c.Formats
	}
	in := &Inputs{Recipe: r}
	if in.Initrd, err = overlays.Initrd(); err != nil {
		return nil, fmt.Errorf("BUG: overlays: %w", err)
	}
	if in.Base, err = overlays.Base(); err != nil {
		return nil, fmt.Errorf("BUG: overlays: %w", err)
	}
	var problems []error
	for _, name := range r.Run {
		b, err := os.ReadFile(beside(r.Dir, name))
		if err != nil {
			problems = append(problems, fmt.Errorf("base.run: reading script: %w", err))
			continue
		}
		in.Run = append(in.Run, b)
	}
	if in.Overlay, err = readOverlays(r); err != nil {
		problems = append(problems, err)
	}
	if in.Bundle, err = loadBundle(r); err != nil {
		problems = append(problems, err)
	}
	if err := in.mirror().Check(); err != nil {
		problems = append(problems, fmt.Errorf("pod.mirror: %w", err))
	}
	if in.Agent, err = c.readAgent(r.Arch); err != nil {
		problems = append(problems, err)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	return in, nil
}

// recipe reads the recipe from where it lies.
func (c *Config) recipe() (*recipe.Recipe, error) {
	if c.Document != nil {
		return recipe.Read(c.Recipe, c.Document)
	}
	return recipe.Load(c.Recipe)
}

// beside makes a path of the recipe one of this process.
func beside(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// resolve finds exact versions for all that the recipe leaves open and writes
// them to the lock.
func (in *Inputs) resolve(ctx context.Context, c *Config) error {
	lock := &Lock{Schema: lockSchema, Suite: in.Recipe.Suite, Arch: in.Recipe.Arch, Request: in.request()}
	// Images first: a registry that does not answer is known in a second.
	source := in.images(c.Cache)
	for _, name := range in.imageNames() {
		err := c.Progress.Do("lock", shortName(name), func() (int64, error) {
			p, err := source.Resolve(ctx, name)
			if err != nil {
				return 0, err
			}
			lock.Images = append(lock.Images, Image{Name: name, Digest: p.Digest, Manifest: p.Manifest})
			return 0, nil
		})
		if err != nil {
			return err
		}
	}
	err := c.Progress.Do("lock", "packages", func() (int64, error) {
		res, err := debian.Resolve(ctx, debian.Request{
			Suite: in.Recipe.Suite, Arch: in.Recipe.Arch, Mirrors: in.Recipe.Mirrors, Packages: lock.Request,
		})
		if err != nil {
			return 0, err
		}
		lock.Date, lock.Sources, lock.Packages = res.Date, res.Sources, res.Packages
		return 0, nil
	})
	if err != nil {
		return err
	}
	in.Lock = lock
	if _, err := lock.engine(); err != nil {
		return err
	}
	if err := lock.Write(c.Lock); err != nil {
		return err
	}
	c.Progress(progress.Event{Stage: "lock", Name: filepath.Base(c.Lock), State: progress.Done})
	return nil
}

// request is what apt is asked for: the appliance's packages, the kernel and
// the recipe's own.
func (in *Inputs) request() []string {
	names := slices.Concat(overlays.Packages(in.Recipe.Arch), in.Recipe.Packages)
	kernel := "linux-image-" + in.Recipe.Arch
	if in.Recipe.Kernel == "cloud" {
		kernel = "linux-image-cloud-" + in.Recipe.Arch
	}
	names = append(names, kernel)
	slices.Sort(names)
	return slices.Compact(names)
}

// imageNames lists the container images in the order of their names.
func (in *Inputs) imageNames() []string {
	var names []string
	for _, s := range in.Bundle.Services {
		if !slices.Contains(names, s.Image) {
			names = append(names, s.Image)
		}
	}
	slices.Sort(names)
	return names
}

// mirror is the recipe's, with its directories and files found from here.
func (in *Inputs) mirror() dockerstore.Mirror {
	m := dockerstore.Mirror{}
	for name, place := range in.Recipe.Mirror {
		for _, kind := range []string{"oci:", "docker-archive:"} {
			if path, ok := strings.CutPrefix(place, kind); ok && path != "" {
				place = kind + beside(in.Recipe.Dir, path)
			}
		}
		m[name] = place
	}
	return m
}

func (in *Inputs) images(cache string) *dockerstore.Source {
	return &dockerstore.Source{Cache: cache, Mirror: in.mirror(), Platform: "linux/" + in.Recipe.Arch}
}

// engine is the version of Docker that the lock installs.
func (l *Lock) engine() (string, error) {
	for _, p := range l.Packages {
		if p.Name == "docker.io" || p.Name == "docker-ce" {
			return p.Version, dockerstore.CheckEngine(p.Version)
		}
	}
	return "", errors.New("the locked packages have no docker.io and no docker-ce")
}

// readAgent reads the agent for an architecture, as make build leaves it.
func (c *Config) readAgent(arch string) (Agent, error) {
	name := agentName + "-linux-" + arch
	b, err := fs.ReadFile(c.Agents, name)
	if err != nil {
		var in *fs.PathError
		if errors.As(err, &in) {
			in.Path = filepath.Join(c.Agent, name)
		}
		return Agent{}, &MissingAgentError{Path: filepath.Join(c.Agent, name), Err: err}
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return Agent{}, fmt.Errorf("reading agent: %w", err)
	}
	version := "0~devel"
	if v := strings.TrimPrefix(info.Main.Version, "v"); v != "" && v != "(devel)" {
		version = strings.ReplaceAll(v, "-", "~")
	}
	return Agent{Binary: b, Version: version}, nil
}

// A MissingAgentError says that the agent's binary is not where it should be.
type MissingAgentError struct {
	Path string
	Err  error
}

func (e *MissingAgentError) Error() string { return fmt.Sprintf("reading agent: %v", e.Err) }

func (e *MissingAgentError) Unwrap() error { return e.Err }

// Hint is what makes it.
func (e *MissingAgentError) Hint() string {
	return "build it with: make build; or name its directory with --agent DIR"
}

// readOverlays reads the recipe's overlay directories. Owners are root; modes
// are those on disk, with the bits of group and others that a umask may have
// taken not put back.
func readOverlays(r *recipe.Recipe) ([]overlays.File, error) {
	byPath := map[string]overlays.File{}
	var problems []error
	for _, dir := range r.Overlays {
		dir = beside(r.Dir, dir)
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || name == dir {
				return err
			}
			rel, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			f, err := readOverlay(name, filepath.ToSlash(rel))
			if err != nil {
				return err
			}
			byPath[f.Path] = f
			return nil
		})
		if err != nil {
			problems = append(problems, fmt.Errorf("overlays: reading %s: %w", dir, err))
		}
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	files := make([]overlays.File, 0, len(byPath))
	for _, f := range byPath {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b overlays.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

func readOverlay(name, rel string) (overlays.File, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return overlays.File{}, err
	}
	f := overlays.File{Path: rel, Mode: uint16(info.Sys().(*syscall.Stat_t).Mode & 0o7777)}
	switch {
	case info.IsDir():
		f.Type = overlays.Dir
	case info.Mode().IsRegular():
		f.Type = overlays.Regular
		f.Content, err = os.ReadFile(name)
	case info.Mode()&fs.ModeSymlink != 0:
		f.Type, f.Mode = overlays.Symlink, 0o777
		f.Link, err = os.Readlink(name)
	default:
		err = fmt.Errorf("%s is neither a file, a directory nor a symlink", name)
	}
	return f, err
}

func shortName(image string) string { return image[strings.LastIndexByte(image, '/')+1:] }
