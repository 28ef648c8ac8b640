package simulator

import "sluice/schemas/events"

// market is a country with its currency. Money moves within a market only.
type market struct {
	country  string
	currency events.Currency
	share    float64 // of the customers
	price    float64 // minor units that buy what 1 CNY buys
}

var markets = []market{
	{"CN", events.MustCurrency("CNY"), 0.97, 100},
	{"HK", events.MustCurrency("HKD"), 0.02, 110},
	{"JP", events.MustCurrency("JPY"), 0.01, 21}, // no decimals
}

// city is where customers live. Coordinates are those of the centre.
type city struct {
	market              int // index in markets; -1 for cities where nobody lives
	country             string
	latitude, longitude float64
	share               float64 // of its market's customers
}

var cities = []city{
	{0, "CN", 31.2304, 121.4737, 24}, // Shanghai
	{0, "CN", 39.9042, 116.4074, 21}, // Beijing
	{0, "CN", 22.5431, 114.0579, 17}, // Shenzhen
	{0, "CN", 23.1291, 113.2644, 18}, // Guangzhou
	{0, "CN", 30.5728, 104.0668, 20}, // Chengdu
	{0, "CN", 29.5630, 106.5516, 16}, // Chongqing
	{0, "CN", 30.2741, 120.1551, 12}, // Hangzhou
	{0, "CN", 30.5928, 114.3055, 13}, // Wuhan
	{0, "CN", 34.3416, 108.9398, 12}, // Xi'an
	{0, "CN", 32.0603, 118.7969, 9},  // Nanjing
	{0, "CN", 36.0671, 120.3826, 9},  // Qingdao
	{0, "CN", 41.8057, 123.4315, 8},  // Shenyang
	{0, "CN", 25.0389, 102.7183, 7},  // Kunming
	{0, "CN", 45.8038, 126.5349, 7},  // Harbin
	{1, "HK", 22.3193, 114.1694, 1},
	{2, "JP", 35.6762, 139.6503, 1}, // Tokyo
	{-1, "SG", 1.3521, 103.8198, 0},
	{-1, "TH", 13.7563, 100.5018, 0},
	{-1, "US", 37.7749, -122.4194, 0},
	{-1, "RO", 44.4268, 26.1025, 0},
	{-1, "NG", 6.5244, 3.3792, 0},
	{-1, "BR", -23.5505, -46.6333, 0},
	{-1, "VN", 10.8231, 106.6297, 0},
}

const (
	firstForeign = 16 // index of the first city where nobody lives
	firstRemote  = 18 // index of the first city where takeovers come from
)

// category is a trade: what it costs there and when.
type category struct {
	mcc    string  // ISO 18245
	share  float64 // of the merchants
	median float64 // CNY
	sigma  float64
	online bool
}

var categories = []category{
	{"5411", 22, 48, 0.7, false},  // groceries
	{"5814", 18, 24, 0.5, false},  // fast food
	{"5812", 10, 95, 0.7, false},  // restaurants
	{"4111", 4, 5, 0.4, false},    // local transport
	{"5912", 5, 42, 0.7, false},   // pharmacies
	{"5541", 3, 240, 0.4, false},  // petrol
	{"7832", 3, 55, 0.4, false},   // cinemas
	{"5651", 8, 160, 0.8, true},   // clothing
	{"5732", 4, 420, 1.0, true},   // electronics
	{"5816", 7, 22, 0.9, true},    // games
	{"5942", 4, 45, 0.6, true},    // books
	{"4121", 5, 26, 0.6, true},    // taxis
	{"4814", 3, 60, 0.5, true},    // telephone
	{"4900", 2, 130, 0.6, true},   // utilities
	{"4722", 1.5, 700, 0.8, true}, // travel
	{"5944", 0.5, 900, 0.9, true}, // jewellery
}

// pages are what customers look at.
var pages = []string{
	"home", "balance", "statement", "offers", "transfer", "cards", "loans", "funds", "settings", "help", "product/insurance", "product/card",
}

// complaints are what customers write.
var complaints = []string{
	"The payment was taken twice.", "I cannot sign in since yesterday.", "The refund has not arrived.",
	"The merchant did not deliver.", "The fee was not announced.", "Please raise my daily limit.",
}

// The curves say how likely an hour of local time is, on working days and on other days.
var (
	workingDay = cumulate([]float64{2, 1, 0.6, 0.4, 0.4, 0.8, 2, 5, 7, 6, 6, 8, 11, 8, 6, 6, 6, 8, 11, 11, 10, 9, 7, 4})
	freeDay    = cumulate([]float64{4, 2, 1, 0.6, 0.5, 0.6, 1, 2, 4, 7, 9, 10, 11, 10, 9, 9, 9, 10, 11, 11, 10, 9, 8, 6})
)

// localHours is what local time is ahead of UTC: 8 hours for every market (Japan's ninth is left out).
const localHours = 8
