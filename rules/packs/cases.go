package packs

import "embed"

//go:embed *.yaml
var files embed.FS

// Cases returns the cases that stand beside a shipped pack ("fraud"), nil if there are none.
func Cases(pack string) []byte {
	data, err := files.ReadFile(pack + "_test.yaml")
	if err != nil {
		return nil
	}
	return data
}
