package dockerstore

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// repositories makes repositories.json. References are sorted and names of the
// form the engine shows; a tag can be one image only.
func repositories(images []*image) ([]byte, error) {
	var all struct{ Repositories map[string]map[string]string }
	all.Repositories = map[string]map[string]string{}
	for _, i := range images {
		name := i.ref.Familiar()
		if all.Repositories[name] == nil {
			all.Repositories[name] = map[string]string{}
		}
		keys := []string{name + "@" + i.Digest}
		if i.ref.Tag != "" {
			keys = append(keys, name+":"+i.ref.Tag)
		}
		for _, key := range keys {
			if other, ok := all.Repositories[name][key]; ok && other != i.Config {
				return nil, fmt.Errorf("%s is two images, %s and %s", key, other, i.Config)
			}
			all.Repositories[name][key] = i.Config
		}
	}
	return json.Marshal(all)
}

// distribution writes which blob is which layer and where it is from, so that
// docker pull skips what is there.
func (s *store) distribution(blobs map[Layer][]string) error {
	// moby's distribution/metadata.V2Metadata, of an anonymous pull.
	type metadata struct{ Digest, SourceRepository, HMAC string }
	byDiffID := map[string][]metadata{}
	byDigest := map[string]string{}
	for l, names := range blobs {
		byDigest[l.Digest] = l.DiffID
		for _, name := range names {
			byDiffID[l.DiffID] = append(byDiffID[l.DiffID], metadata{Digest: l.Digest, SourceRepository: name})
		}
	}
	for _, digest := range sortedKeys(byDigest) {
		h, err := encoded(digest)
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/distribution/diffid-by-digest/sha256/"+h, 0o644, []byte(byDigest[digest])); err != nil {
			return err
		}
	}
	for _, diffID := range sortedKeys(byDiffID) {
		h, err := encoded(diffID)
		if err != nil {
			return err
		}
		list := byDiffID[diffID]
		slices.SortFunc(list, func(a, b metadata) int {
			return strings.Compare(a.SourceRepository+a.Digest, b.SourceRepository+b.Digest)
		})
		b, err := json.Marshal(slices.Compact(list))
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/distribution/v2metadata-by-diffid/sha256/"+h, 0o644, b); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
