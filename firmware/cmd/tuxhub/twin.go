package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) twinCommand() *cobra.Command {
	return group("twin", "Device twins: desired and reported properties", a.twinGet(), a.twinSet())
}

func (a *app) twinGet() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "get DEVICE",
		Short:             "Print a device's twin",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRegistry(cmd.Context(), func(r registry) error {
				t, err := r.Twin(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), t)
				}
				for _, half := range []struct {
					name string
					p    hub.TwinProperties
				}{{"desired", t.Desired}, {"reported", t.Reported}} {
					var b bytes.Buffer
					enc := json.NewEncoder(&b)
					enc.SetEscapeHTML(false)
					enc.SetIndent("", "  ")
					if err := enc.Encode(half.p.Values); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s, version %d: %s", half.name, half.p.Version, b.String())
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole twin as one JSON object, with metadata")
	return cmd
}

func (a *app) twinSet() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set DEVICE JSON | KEY.PATH=VALUE…",
		Short: "Change desired properties",
		Long: `Merges a change into the desired properties and prints their new version. The
change is a JSON object, or values by their path; a value that is JSON is taken
as such, anything else as a string. null removes a property.`,
		Example: `  tuxhub twin set pi filterModule.TemperatureThreshold=30
  tuxhub twin set pi '{"filterModule":{"TemperatureThreshold":30}}'`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			patch, err := parseChange(args[1:])
			if err != nil {
				return err
			}
			return a.withRegistry(cmd.Context(), func(r registry) error {
				version, err := r.SetDesired(cmd.Context(), args[0], patch)
				if errors.Is(err, hub.ErrTwinPatch) {
					return usageError{err}
				}
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]any{"device": args[0], "version": version})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), version)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parseChange makes one merge patch of the arguments.
func parseChange(args []string) ([]byte, error) {
	if strings.HasPrefix(strings.TrimSpace(args[0]), "{") {
		if len(args) > 1 {
			return nil, usagef("give one JSON object, or several KEY.PATH=VALUE, not both")
		}
		if !json.Valid([]byte(args[0])) {
			return nil, usagef("this is not JSON: %s", args[0])
		}
		return []byte(args[0]), nil
	}
	patch := map[string]any{}
	for _, arg := range args {
		path, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef("%q is neither a JSON object nor KEY.PATH=VALUE", arg)
		}
		var v any = value
		if json.Valid([]byte(value)) {
			v = json.RawMessage(value)
		}
		keys := strings.Split(path, ".")
		at := patch
		for _, k := range keys[:len(keys)-1] {
			if k == "" {
				return nil, usagef("%q: a key of the path is empty", arg)
			}
			inner, isObject := at[k].(map[string]any)
			if _, there := at[k]; there && !isObject {
				return nil, usagef("%q: %q has been given a value already", arg, k)
			}
			if inner == nil {
				inner = map[string]any{}
				at[k] = inner
			}
			at = inner
		}
		last := keys[len(keys)-1]
		if last == "" {
			return nil, usagef("%q: a key of the path is empty", arg)
		}
		if _, there := at[last]; there {
			return nil, usagef("%q: %q has been given a value already", arg, path)
		}
		at[last] = v
	}
	return json.Marshal(patch)
}
