package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteState keeps a channel's place in a small JSON file, whole or not at all: a killed process leaves the old one.
func WriteState(file string, state any) error {
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("keep the state in %s: %w", file, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("keep the state in %s: %w", file, err)
	}
	_, err = temporary.Write(append(data, '\n'))
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		os.Remove(temporary.Name())
		return fmt.Errorf("keep the state in %s: %w", file, err)
	}
	return nil
}

// ReadState reads what WriteState has kept; found is false if there is no such file.
func ReadState(file string, state any) (found bool, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the state: %w", err)
	}
	if err := json.Unmarshal(data, state); err != nil {
		return false, fmt.Errorf("read the state: %s is damaged (%w); delete it to start from the beginning", file, err)
	}
	return true, nil
}
