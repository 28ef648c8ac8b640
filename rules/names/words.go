package names

import "strings"

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

var (
	// forms are titles and company forms: they say nothing about who is meant.
	forms = set(`mr mrs ms miss mx dr prof professor sir dame lord lady madam mme mlle herr frau sr sra jr esq phd md hon rev
		ltd limited co company corp corporation inc incorporated llc llp lp plc gmbh ag kg sa sas sarl srl spa bv nv ab oy oyj aps
		pte pty bhd sdn kk jsc pjsc ooo oao zao holding holdings group intl international`)

	// particles are part of many names.
	particles = set("de del della der den di da do dos das du la le los las van von zu zur ten ter al el ul bin bint ibn abu ben y e i und and of the")
)

// hanForms are what may follow a Chinese name; longer ones first.
var hanForms = []struct {
	text    string
	company bool
}{
	{"股份有限公司", true}, {"有限责任公司", true}, {"集团有限公司", true}, {"有限公司", true}, {"总公司", true}, {"分公司", true},
	{"集团", true}, {"公司", true}, {"先生", false}, {"女士", false}, {"小姐", false}, {"太太", false}, {"博士", false}, {"教授", false},
}

// traditional pairs the traditional characters of names with the simplified ones (Table of General Standard Chinese
// Characters, State Council of China, 2013): surnames, and what given names and companies are mostly made of. Others are
// compared by how they read.
const traditional = "張张劉刘陳陈楊杨趙赵黃黄吳吴孫孙馬马鄭郑謝谢羅罗韓韩馮冯鄧邓許许葉叶蘇苏呂吕蔣蒋盧卢賈贾鄒邹蕭萧陸陆範范譚谭閆闫韋韦" +
	"龍龙賀贺顧顾龔龚錢钱湯汤嚴严溫温嶽岳齊齐莊庄顏颜倪倪華华聶聂焦焦藍蓝項项魯鲁簡简饒饶慶庆關关闞阚單单車车喬乔畢毕衛卫鄔邬" +
	"鄺邝連连駱骆莫莫鍾钟鐘钟練练歐欧陽阳諸诸遲迟萬万長长東东" +
	"偉伟國国強强軍军麗丽傑杰濤涛飛飞鳳凤蘭兰紅红蓮莲榮荣貴贵財财寶宝義义禮礼誠诚賢贤順顺興兴勝胜豐丰學学書书詩诗語语" +
	"輝辉曉晓銳锐鋒锋鋼钢鐵铁銀银鑫鑫錦锦鎮镇鈞钧銘铭鴻鸿鵬鹏鶴鹤鶯莺雲云電电霧雾靈灵靜静韻韵頌颂穎颖願愿風风" +
	"愛爱恆恒憲宪懷怀慧慧憶忆應应戀恋撫抚揚扬權权業业標标樹树樺桦橋桥歡欢歷历氣气漢汉淵渊潔洁潤润澤泽濱滨瀟潇瀾澜燦灿" +
	"煒炜爾尔玲玲瑋玮瓊琼環环瑩莹畫画異异盡尽監监碩硕確确禎祯穩稳競竞筆笔節节紀纪純纯紹绍綺绮維维緒绪緯纬縉缙績绩繼继續续" +
	"羣群聖圣聰聪聲声職职肅肃興兴艷艳藝艺蘊蕴蔭荫薩萨虛虚衡衡親亲覺觉記记訓训設设詠咏談谈論论謙谦講讲譯译護护讓让貞贞" +
	"賓宾賜赐贊赞躍跃輪轮輯辑達达遠远遙遥邁迈運运進进釗钊鎔镕開开閃闪閔闵間间閣阁閻阎陰阴際际隨随險险雙双雋隽難难" +
	"頓顿預预頻频題题飲饮馳驰駿骏騰腾驊骅驍骁驥骥魚鱼鳴鸣鷹鹰麒麒點点齡龄俠侠倫伦傳传僑侨億亿儀仪優优兒儿凱凯劍剑" +
	"創创勵励動动勳勋務务區区協协厲厉參参吉吉啟启喚唤嘉嘉嘯啸圓圆園园場场塵尘壽寿夢梦奮奋妝妆嬌娇嫻娴嬋婵孃娘孫孙寧宁" +
	"審审實实寬宽將将專专尋寻對对導导層层嵐岚島岛崗岗巖岩幣币帥帅師师帶带廣广廳厅張张彥彦後后從从徵征德德志志悅悦" +
	"貿贸際际資资產产發发團团務务會会機机車车廠厂網网絡络號号貨货運运銷销購购證证險险圖图報报腦脑術术樂乐韌韧" +
	"綠绿絲丝結结給给統统經经緣缘總总織织繡绣羽羽習习聯联適适選选郵邮醫医釋释"

// romanisations are the commonest spellings of surnames from Hong Kong, Taiwan and overseas, with what they may be in Pinyin.
const romanisations = `au:ou auyeung:ouyang chan:chen chang:zhang chao:zhao chau:zhou cheung:zhang cheng:zheng cheong:zhang
	chiang:jiang chin:qian,jin chiu:zhao,qiu choi:cai chong:zhang,zhuang chou:zhou chow:zhou choy:cai chu:zhu chua:cai chui:xu chung:zhong
	fok:huo fong:fang fung:feng goh:wu heung:xiang ho:he hsiao:xiao hsieh:xie hsiung:xiong hsu:xu hui:xu hung:hong kam:gan,jin
	kao:gao ko:gao koh:xu koo:gu kuan:guan kung:gong kuo:guo kwan:guan kwok:guo kwong:kuang lai:li lam:lin lau:liu law:luo lee:li leung:liang
	liew:liu lim:lin liong:liang lo:luo loh:luo louie:lei lui:lv luk:lu lyu:lv lung:long mak:mai mok:mo ng:wu,huang ngai:wei ong:wang
	pang:peng pao:bao poon:pan shek:shi shih:shi shum:shen,cen shiu:shao sin:xian sit:xue siu:xiao so:su soong:song szeto:situ sze:shi,situ tai:dai tam:tan
	tan:chen tang:deng teh:zheng teng:deng teo:zhang tong:tang,dong tsai:cai tsang:zeng tsao:cao tse:xie tseng:zeng tsoi:cai tsui:xu,cui tu:du
	tung:dong wai:wei wan:wen,yun woo:hu,wu wong:wang,huang yam:ren yau:qiu yee:yu yeung:yang yeh:ye yen:yan yick:yi yim:yan yip:ye yiu:yao
	yuen:yuan,ruan yung:rong`

// surnames are the commonest of China in Pinyin: some nine people in ten have one of them.
var surnames = set(`wang li zhang liu chen yang huang zhao wu zhou xu sun ma zhu hu guo he lin gao luo zheng liang xie song tang han
	deng feng cao peng zeng xiao tian dong pan yuan cai jiang yu du ye cheng wei su lv lu ding ren shen yao jiang cui zhong tan lu fan
	wang liao shi jin jia xia fu fang bai zou meng xiong qin qiu hou lei yan duan long qian tang yin li yi chang wu qiao he lai gong wen
	shao mao kong dai mo ge ou ouyang situ shangguan zhuge sima ruan tao wan zhan xiang gu yue ji mei xing hong guan tu hua qi kang
	bao zhuang nie zhai xin geng guan bu bi ai niu lan qu zuo ling gan ning pang zha an min pi mi`)
