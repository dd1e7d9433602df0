package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Namespace is what a signature is made for: one of something else cannot stand
// for it.
const Namespace = "prose-image"

// A KeyError is a file that cannot be signed with.
type KeyError struct {
	Path string
	Err  error
}

func (e *KeyError) Error() string { return fmt.Sprintf("reading the key %s: %v", e.Path, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

// Hint is what makes one.
func (e *KeyError) Hint() string { return "make one with: ssh-keygen -t ed25519 -N '' -f KEY" }

// ReadKey reads a private key as ssh-keygen(1) writes it, without a passphrase.
func ReadKey(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &KeyError{path, errors.Unwrap(err)}
	}
	key, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		err = errors.New("it has a passphrase, and nobody to ask for it")
	}
	if err != nil {
		return nil, &KeyError{path, err}
	}
	return key, nil
}

// Sign signs content in the form that ssh-keygen -Y verify reads
// (PROTOCOL.sshsig of OpenSSH). With an Ed25519 key equal content has equal
// signatures.
func Sign(key ssh.Signer, content []byte) ([]byte, error) {
	s, err := sshsig.Sign(bytes.NewReader(content), key, sshsig.HashSHA512, Namespace)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sshsig.Armor(s), nil
}
