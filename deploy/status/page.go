package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's three files
	"encoding/base64"
)

// The page is one answer without external parts: style and script are put into it here, and the browser is told to run
// exactly these and nothing else.
var (
	//go:embed page.html
	pageFrame []byte
	//go:embed page.css
	pageStyle []byte
	//go:embed page.js
	pageScript []byte

	pageHTML   = assemble()
	pagePolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; " +
		"connect-src 'self'; style-src " + digest(pageStyle) + "; script-src " + digest(pageScript)
)

func assemble() []byte {
	page := bytes.Replace(pageFrame, []byte("/*style*/"), pageStyle, 1)
	return bytes.Replace(page, []byte("/*script*/"), pageScript, 1)
}

// digest names an inline element's content for Content-Security-Policy (CSP Level 3).
func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
