package simulator

// What customers are called: common parts, put together by chance. Whoever has such a name is nobody's likeness.
var (
	hanFamilies = []rune("王李张刘陈杨黄赵周吴徐孙马朱胡郭何高林罗")
	hanGiven    = []rune("伟芳敏静丽强磊军洋勇艳杰涛明超霞平刚英华玉红建文志海晓小春梅雪峰云辉龙宁慧欣然博宇")

	hongKongFamilies = []string{"Chan", "Wong", "Lee", "Cheung", "Lau", "Ho", "Leung", "Ng", "Lam", "Yeung"}
	hongKongGiven    = []string{"Ka", "Wai", "Chi", "Ming", "Siu", "Wing", "Man", "Kwok", "Yuk", "Hoi"}

	japaneseFamilies = []string{"Sato", "Suzuki", "Takahashi", "Tanaka", "Watanabe", "Ito", "Nakamura", "Kobayashi", "Yamamoto", "Kato"}
	japaneseGiven    = []string{"Haruto", "Yui", "Sota", "Aoi", "Ren", "Hina", "Yuki", "Mei", "Daiki", "Rin"}
)

// nameOf is what a customer is called: in characters in China, in letters elsewhere.
func (s *Simulation) nameOf(who int32) string {
	h := hash(s.config.Seed, ofName, int(who), 0)
	pick := func(n int) int {
		at := int(h % uint64(n))
		h /= uint64(n)
		return at
	}
	switch markets[s.customers[who].market].country {
	case "HK":
		return hongKongFamilies[pick(10)] + " " + hongKongGiven[pick(10)] + " " + hongKongGiven[pick(10)]
	case "JP":
		return japaneseFamilies[pick(10)] + " " + japaneseGiven[pick(10)]
	}
	name := make([]rune, 1, 3)
	name[0] = hanFamilies[pick(len(hanFamilies))]
	for range 1 + min(pick(5), 1) { // four in five have two characters for a given name
		name = append(name, hanGiven[pick(len(hanGiven))])
	}
	return string(name)
}

// levelOf is a customer's KYC level: most have shown all they need to pay what they earn.
func (s *Simulation) levelOf(who int32) int32 {
	switch h := hash(s.config.Seed, ofLevel, int(who), 0) % 100; {
	case h < 5:
		return 1
	case h < 35:
		return 2
	}
	return 3
}
