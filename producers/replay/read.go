package replay

import (
	"errors"
	"iter"
	"strings"

	"sluice/schemas/events"
)

// Read gives the events of a file in its order, without publishing them. A line that is no event ends it with a Problem.
// Each event is the caller's to keep. close must be called.
func Read(c Config) (all iter.Seq2[*events.Event, error], total int64, close func() error, err error) {
	from, err := open(c)
	if err != nil {
		return nil, 0, nil, err
	}
	all = func(yield func(*events.Event, error) bool) {
		for it, err := range from.items() {
			if err == nil && it.wrong != nil {
				err = Problem{it.file, it.line, it.wrong}
			}
			if !yield(it.event, err) || err != nil {
				return
			}
		}
	}
	return all, from.total(), from.Close, nil
}

// AMLSimCustomers says of every node of an AMLSim folder, as the customer its events name, whether it is part of a planted
// pattern.
func AMLSimCustomers(folder string) (map[string]bool, error) {
	from, err := open(Config{Path: folder, Format: AMLSim})
	if err != nil {
		return nil, err
	}
	a, ok := from.(*amlsim)
	if !ok {
		return nil, errors.New("it is no AMLSim folder")
	}
	all := map[string]bool{}
	for row, err := range rows(a.nodesFile, nodeColumns, nil) {
		if err != nil {
			return nil, err
		}
		all["aml-"+strings.Clone(row.fields[0])] = a.fraud[row.fields[0]]
	}
	return all, nil
}
