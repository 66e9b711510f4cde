"""Small HEIC files, made with pillow-heif (x265, quality 60): encoders are no part of the project.

Each shows `PICTURE`, 64 x 48 pixels in three colours. "alpha" is transparent in its upper half,
"two" holds the picture and, as its primary one, that picture upside down. "turned N" stores the
pixels as they are, the boxes `irot` and `imir` that turn them, and the EXIF orientation N as well.
"""

import base64
import struct
import zlib

import numpy as np

RED, GREEN, BLUE = (200, 40, 40), (40, 200, 40), (40, 40, 200)
PICTURE = np.empty((48, 64, 3), np.uint8)
PICTURE[:, :32], PICTURE[:24, 32:], PICTURE[24:, 32:] = RED, BLUE, GREEN


HEIC = {name: zlib.decompress(base64.b85decode(text)) for name, text in {
    "8 bits": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw49>wIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN>#&27*~Y"
        r"telydmj>p6L`8v|R3<1dqb%7F#N;c;EXjo{`I}i#Q~;#!W)>vp1L-oLGG|6+kkACMBDoI?fBydX!N9=JoB-"
        r"4z;lRkl`2Rmh0W(MiGYHA;Vsc0XN@_VVGNQ>WP-"
        r"tYG_Ug&9ojW)(3>1Ju%pih6F$t)g&4uw`@qtdDCBn)1IYoKNITb)rUIw-"
        r"XppZyraX~87XAV%Tk(`rQ0A+(5Zvdr1fa(AL{~tg!5DOG!R%C(%nK?K(fRsdLK`tzif#Js5$i&Rr0%R}BO-Td=@-"
        r"z*`^_&kZl~wlt|8c4Q|MxF)&fhpsoSn0H|DWmR_f?($-&?uqaLX<k#>%g};-"
        r";@R=~_=V|Ik@~Hc5BwzxtXFb<+gi-"
        r"}KMk?eqL2t4oCXb(;^YD?K8oW^8}>!{%V9x92=dfpsw+`=`_yuvYKBrr>eu5bHUfJpJV>5B#|scl=@s!$FsTsVlC"
        r"$UUQ~2{A_Si@!m&4Gk)?-uK)m55SfY"
    ),
    "8 bits, 4:4:4": (
        r"c-"
        r"muNV30{GsVvAy&8%Pmg51nBLl8SRGck>Ufw3+(wIq=N0u(b+a*CjAhJwuG5(YG&l$n#C3}U!AFfalk5HK!+&_FN?"
        r"h?O%l^U}aPkf<n-lgb3;Wt1fwf|z^-nI*Y!CI2!DiVA@Az088-"
        r"d>~y8ROZac!U1H?vj8cQ`@rz$|BoLG4E)RqKpo-"
        r"^j6970|AQ1TgH<pCmF!}2NCe7hIWaP#N=#r8P}p=gX3BMQMqV}+kXQ<cU{Oc{D(7%vJXkDYz%c=6i*Ry&PElTRP6"
        r"be$mw~MTC?t|uT#yR&ngbMTB<Ca+K-"
        r"nPI8$f9gVEX_6{|68a!~zAG6`3GGW)2RJS0pkEa$%ti3^>+CCT7+aAbU}6N+Kwfr)e;*=X_wPtg`?Ak4yFczkiW)"
        r"{>G)=`py1F3I9Ij_y2dSuR9bW{yoX2AZ`AurE|Z|`dMahf7j*3PF25sKehM2;kC3mzx~!9u1Rb6UOgDJ_5F3<-"
        r"7HIAU3h=^LuJ#dX_IY=Qet*Ytk?Jx|L=SG8i$EXTe#=2nBLfP)gWCtSf5wMY}-!N^X;47=9m|!pABXz-"
        r"uozM#!tRUF90JAntl"
    ),
    "10 bits": (
        r"c-"
        r"muNV30{GsVvAy&8%Pmg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$n#C3}U!AFfalk5HK!)&_GZK"
        r"#LAhOd1+uCNK_QaNo9iaGRl$-"
        r"K}^1a%#vKVl0TURMFl|mPG&)JK9DX2DsyIJ;Q%t{?f@y0`@rz$@2_7B4E)RqKpo-"
        r"^j6970|AQ1TgH<pCmF!}2NCe7hIWaP#N-"
        r"R)lWVxBQ&MSL%Lt8TwNX!UCFbO09m9x1p9xOi43A95vIX|Z;FFB_ID9X#g)&LX|$t*5Ng?h{ZiZzmR5(}VgklPKQ"
        r"Gzc*L|Ns93hz4STg3O9ckRUS`7Z;F{$SlZ(g)uPLSR0v`SzCbY%G{JhP#EWGFs|o(V5w|0|NpOF|Ns9~&vX7Md_`"
        r"vQ{=doL_X9uwf5Ny~&nfHXx%;18%0JJZ{<Y*b!-hil`gu-"
        r"_*R|H4h%;uLa5V8_p7o<C*EnrXcy8@`pOI(#@tC?g?~IF0Em^$xSN;1N#r`2;#k`+;``l~*W<`a}"
    ),
    "alpha": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>UfhjvTwIq=N0u(b+a*CjAhJwuG5(YG2l9`haHpIn&fr)_;#A51)&_FN?"
        r"C<X+~ns5;rAhyWN%u56FK(eAhPAXU#P)$ZzvLOSCAQM86uOPD|mjSAhaaCqPQ2~%{$}C9E2a1&el{qsq1BDnSfEC"
        r"GoVEFU*#}5Vue&z(A4haWF9>)LwK?;~bDwsh?ZWoh7B2ZGxiIEXaW`RN@>$F!-mhIfZkzt?!6k-"
        r"Mu42nrW<!mmD2a6AM0xc0v&d({zOU|hPit;kBH2{S~GK&jRq26_XVvXdS!~!TA6ch$f8tlXW|Nno028KXEW<@4A$"
        r"T&DSKtT@n6bpzs{|C%de-NG$hj<F4fEla;=ysT&RDpg%l{nDEA{M=R(yV6(fbQgJ0139BdWR2YKO@LW^~BN&XArN"
        r"nD9<XlAT`}8Beg8q%E-Xb)Cwq-nPLTw7lq7%Tv&nurUBMQCT7+a1}4@vX7-L2pqNx<QED1go)4%m2b@ws-rtv-k_"
        r"bvt(=-^@b3U+CR@wjm$EEuJ-"
        r"@nK?f8#uHcFyAcf2Nz?S9Sh>Z{?=LExTkGE5GuJo4($pYdzWgLudWjB;B?D>T5pKO%r&3(?5H+&-"
        r"0J0E)nY2Z9cHB^oX3AvHjr>n}ea=p7SgP*2Q@2pHgSQTD|+4g2$yptmk<0^p~$Z@aJya@rx-"
        r"82VDZDuDJ4g&6(2hv%yKldmjbO_{lfD0_ZXc4aRlC2dvN5|9if4@-K0VKa#NqCIM@X!~g(jFVtW"
    ),
    "turned 2": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>Uf$>CcYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gB@LIc4p"
        r"pcoJ^wZTPHfY>54GcOIy1Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxm5l6}1w{ow_Or}_<a{7q2Gr}!$P5"
        r"yi09GXTf#J{JA3qov_?Z)cIwTwzc^Loy2Pt3%sbB^nxm`>Si9ks$Cq_mznFR`stkYgSS+;WrM}~m{P>2~sFeoMgm"
        r"9x1p9xOi43A98wIX|Z;FFB_ID9X#g)&LX|$t*5Ng?iTkiZzmR5(}VgP*4~^X>cI?|Ns93G%y4TGAlAcg3KHo96*X"
        r"QGdHscq);-"
        r"mAQu)Xj0}uyjZDm}Ep0%KRAy0X8dQQWIi)xm91S2X$8u8=LGd+BgK<6Q150I<{r`Vls{jA}i=6W}&J$<nEZ+ZTy7"
        r"_%o=l}OsZaUnuONO!XE3dfe>rJ}Wlg&SL)}Kw%UHh-T=0n{yf%iB4vv>PE|H$eRp?=-"
        r"w1M5nU$f+6IAO5g880zgg&r)DrjK}^dbq1`}yRRvDTsp*hjwerl`N{)-?#3Ozn8I+-"
        r"C1C1`E3em_DGfgxoK(E`QP7N^eA6p{E@OkltgkPF7Ldomz{n^B3VcYcg8%?%Dy5<"
    ),
    "turned 5": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>Uf$>sqYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gB~LIc4p"
        r"pcoJ^O@NE20I@}8W?mYY2a**9a#F#{fNC<zk_{P<1Q|g}Tq`oc%J~X1OL7^YDj5Yc3yKPW?Dv@k$@xIK45-"
        r"(ckr^a30jx;w1H+%cKYlPU@G~a>bx1fc@-"
        r"Y7Y4^qGkQo#&Da=Vxu5`mIhPK=CbG7A(MS*N{vvTWxLjtm0@pb#^NU{Fi~Dra+HJXn076KIKWa(+%xUUE(aP?VQ}"
        r"tpO+`l384k3iYl76l)~sBo;u~pr9~-"
        r"(%?Y&|Ns97XkZ8wWL9K?1erNFIDiyqW>J0#GnkQ^Sp?D{m06GriycM=M)pP~X4aOrcCbuQY8q6AFFB<+85|)XJ;!"
        r"oW5<xLHO@nbg=L1V+mHq#JT&n;7{fnIQH_j7h=Pcg;XS(@)Rp<ZrR&F}nvP*`s@++^n>FZ6p)|1UYbk?6u(p~$nz"
        r"UD*SG=cXw{j+!bJpah*5}|(G<^$_WkI1PR+aLb0IT-5gInPpHU5v;6DRl;{)w{1Lcw9QfdX6VgfBDJ-"
        r"f9}Q|znH>s&?R8%iYu?zoGA@I8=O?U_fgP{pM29RfG%T$#Idh0gBFm-!NABU1d0Zr>scWl0s#9Vs3`"
    ),
    "turned 6": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>Uf$>CcYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gB@LIc4p"
        r"pcoJ^wZTPHfY>54GcOIy1Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxm5l6}1w{ow_Or}_<a{7q2Gr}!$P5"
        r"yi09GXTf#J{JA3qov_?Z)cIwTwzc^Loy2Pt3%sbB^nxm`>Si9ks$Cq_mznFR`stkYgSS+;WrM}~m{P>2~sFeoMgm"
        r"9x1p9xOi43A98wIX|Z;FFB_ID9X#g)&LX|$t*5Ng?iTkiZzmR5(}VgP*4~^X>cI?|Ns93G%y4TGAlAcg3KHo96*X"
        r"Qvnam==pF{i%z|84q%bltvNbX>v$nJWIZ~NLscBFNzT}kRWN<Wq%s!Tzk_d{gX&Q{{IUiUmtL*>(<5K<q?_cDczj"
        r"2;8J7@9!Khw?ct2+O`w{p|rmR&N8m0x+qO<!-"
        r")wVrJLp|k#MlJ44n^)(;rrU|^i>7TvZ=lMrgmk9OiHXm45dPGjm*#7W`&B0J_&v}*t>ta0iPpLCtt=@f2!Q;{))^"
        r"j|0`pZ`y_;WYz_{9{4gDwG6S6q3$=1gh$+2Ew&y^n%s{N$Tn0dyG~BxZem8MJ^r4hBX>AyD9h0vO^U0Cx$cwE"
    ),
    "two": (
        r"c-"
        r"muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpJZ4YDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{bpTLIc4p"
        r"pcoJ^Wx++dfY>54GcOIy1Ida4IjLY}Ks6a<$%YIlf=mcOzJkn>T$nya*35#U0wDWtW<hd3kS+r%b7o`)2~7YilKa"
        r"5$=kJdn3=I6t2|%+Y92j{R|NjRmU<RpR1|hj!Ob&@aNi8QvMl_iP3XQDOUOid1a|cI;fdWv78ALEBCIOYRxiB6qK"
        r"F|rYL^wG=rzkHurvfO-%fQwE6cWiSE=YxX*8z$(l5-"
        r"LZplnc37(i*TXa4{H{{b2p0tJ~BnIJ)C4h{|=rI1;W3yTY2@Uk{CF|)QXFhOYsMxET0L{OYe(_mcB`M^?HW&i&lm"
        r"+Jq2|03u7jq}9WIg9uInQnex)%pLum75N??2=)u{K_kC`g)VD^<?u8o%Lsvbl3i?ulZ0nP2l}a|Lom9&p)!dM5tf"
        r"4`M|o;BXVlS_J==g4u*Pr&a)I)7vr&iN}T~~_3mp59+wWWp5w{WU%v9dpSy9#FQzaYbP1Tc;>znaXG+7*1}7EoeH"
        r"1j~C*Sl6pv&5@xQt7^b>E!ooA3V_zW*P_`<pXC;BD0ZL#qExMQZ;}aVwu){^EVcg?ZbP=Egj>UwG)uwbFa7oeEnu"
        r"KgKT7H`A%xw2AL&4%>oOHTK0P8{!Sp_WPR_TT6bkQVsRq_j`i9#{2CR9q)}fY!yuZM(J}|rDgs;cdQHmJ3-=t"
    ),
}.items()}


def box(kind, *parts):
    """A box of ISO/IEC 14496-12."""
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def heic_grid():
    """A HEIC as telephones write it: a grid of tiles, here of two rows and columns of 64 x 64.

    Each tile is "8 bits", whose coded picture has 16 rows more than the one that it shows. Made by
    hand from ISO/IEC 23008-12.
    """
    tile = HEIC["8 bits"]
    start = tile.index(b"hvcC") - 4
    settings = tile[start : start + int.from_bytes(tile[start : start + 4], "big")]
    pixels = tile[tile.index(b"mdat") + 4 :]
    tiles, grid = (1, 2, 3, 4), 5
    sizes = [box(b"ispe", struct.pack(">III", 0, side, side)) for side in (64, 128)]
    owners = b"".join(struct.pack(">HBBB", item, 2, 0x81, 2) for item in tiles)
    owners += struct.pack(">HBB", grid, 1, 3)
    names = [box(b"infe", struct.pack(">IHH", 2 << 24, item, 0), kind, b"\0")
             for item, kind in (*((item, b"hvc1") for item in tiles), (grid, b"grid"))]
    layout = struct.pack(">BBBBHH", 0, 0, 1, 1, 128, 128)

    def meta(offset):
        places = [struct.pack(">HHHHII", item, 0, 0, 1, offset, len(pixels)) for item in tiles]
        places.append(struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(layout)))
        return box(
            b"meta", bytes(4), box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, grid)),
            box(b"iloc", struct.pack(">IBBH", 1 << 24, 0x44, 0, 5), *places),
            box(b"iinf", struct.pack(">IH", 0, 5), *names),
            box(b"iref", bytes(4), box(b"dimg", struct.pack(">6H", grid, 4, *tiles))),
            box(b"iprp", box(b"ipco", settings, *sizes),
                box(b"ipma", struct.pack(">II", 0, 5), owners)),
            box(b"idat", layout),
        )

    brands = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return brands + meta(len(brands) + len(meta(0)) + 8) + box(b"mdat", pixels)
